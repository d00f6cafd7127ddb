//! A cluster without a node: the API, the controllers, the resolvers; and a web server to fetch from.
#![allow(dead_code)] // each test binary uses its part

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use base64::Engine as _;
use kube::api::{Api, DynamicObject, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
pub use server::Local;
use tektite_resolvers::{AddressPolicy, ResolverOptions, Resolvers};

#[path = "../../../controller/tests/server/mod.rs"]
mod server;

pub const TASK: &str = "apiVersion: tekton.dev/v1\nkind: Task\nmetadata:\n  name: remote\nspec:\n  steps:\n  - name: s\n    image: busybox\n    command: [echo]\n";

impl Local {
    pub async fn start() -> Self {
        Self::with(AddressPolicy::local()).await
    }

    pub async fn with(addresses: AddressPolicy) -> Self {
        let local = Self::without_resolvers().await;
        let options = ResolverOptions::new(addresses);
        let running = Resolvers::run(local.client.clone(), options, local.shutdown.clone());
        tokio::spawn(running);
        local
    }

    pub async fn without_resolvers() -> Self {
        let (client, config) = server::installed().await;
        Self::with_controllers(client, config)
    }

    pub fn api(
        &self,
        namespace: &str,
        group: &str,
        version: &str,
        kind: &str,
    ) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        Api::namespaced_with(self.client.clone(), namespace, &resource)
    }

    pub fn requests(&self) -> Api<DynamicObject> {
        self.api(
            "default",
            "resolution.tekton.dev",
            "v1beta1",
            "ResolutionRequest",
        )
    }

    /// Creates an object of the core group.
    pub async fn create(&self, namespace: &str, kind: &str, name: &str, rest: Value) {
        let mut object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}});
        for (field, value) in rest.as_object().into_iter().flatten() {
            object[field] = value.clone();
        }
        let object = serde_json::from_value(object).expect("an object");
        self.api(namespace, "", "v1", kind)
            .create(&PostParams::default(), &object)
            .await
            .expect("created");
    }

    /// Sets one of the resolvers' ConfigMaps, and waits until it is heard of.
    pub async fn configure(&self, map: &str, data: Value) {
        self.create(
            "tekton-pipelines-resolvers",
            "ConfigMap",
            map,
            json!({"data": data}),
        )
        .await;
        tokio::time::sleep(Duration::from_millis(150)).await;
    }

    /// Creates a request.
    pub async fn ask(&self, name: &str, resolver: &str, params: Value) {
        let params: Vec<Value> = params
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, value)| json!({"name": name, "value": value}))
            .collect();
        let request = json!({
            "apiVersion": "resolution.tekton.dev/v1beta1", "kind": "ResolutionRequest",
            "metadata": {"name": name, "labels": {"resolution.tekton.dev/type": resolver}},
            "spec": {"params": params},
        });
        let request = serde_json::from_value(request).expect("an object");
        self.requests()
            .create(&PostParams::default(), &request)
            .await
            .expect("created");
    }

    /// The status once the request has ended.
    pub async fn ended(&self, name: &str) -> Value {
        let requests = self.requests();
        for _ in 0..3000 {
            let request = requests.get(name).await.expect("the request is there");
            let status = &request.data["status"];
            if status["conditions"][0]["status"]
                .as_str()
                .is_some_and(|status| status != "Unknown")
            {
                return status.clone();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{name} does not end: {:#?}", requests.get(name).await);
    }

    /// Asks and gives the status at the end.
    pub async fn resolve(&self, name: &str, resolver: &str, params: Value) -> Value {
        self.ask(name, resolver, params).await;
        self.ended(name).await
    }
}

/// What a request that succeeded brought.
#[track_caller]
pub fn data(status: &Value) -> String {
    let condition = &status["conditions"][0];
    assert_eq!(condition["status"], "True", "{status:#}");
    let data = status["data"].as_str().expect("data");
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(data)
        .expect("base64");
    String::from_utf8(bytes).expect("text")
}

/// Why a request failed.
#[track_caller]
pub fn failure(status: &Value) -> (&str, &str) {
    let condition = &status["conditions"][0];
    assert_eq!(condition["status"], "False", "{status:#}");
    (
        condition["reason"].as_str().unwrap_or_default(),
        condition["message"].as_str().unwrap_or_default(),
    )
}

/// Serves `router` on this machine for the rest of the test.
pub async fn serve(router: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}
