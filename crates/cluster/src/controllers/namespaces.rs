//! What a namespace always has, and how it goes (K-225, K-226).

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use kube::api::{DeleteParams, DynamicObject, ListParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use super::feed::Kind;
use super::graph::Object;
use super::tell;

/// Makes the default account or the root certificate again if that is what is gone.
pub(super) async fn restore(client: &Client, gone: &Object) {
    let made = match (gone.kind.id().as_str(), gone.name.as_str()) {
        ("serviceaccounts.", "default") => {
            let api: Api<ServiceAccount> = Api::namespaced(client.clone(), &gone.namespace);
            let mut account = ServiceAccount::default();
            account.metadata.name = Some("default".into());
            api.create(&PostParams::default(), &account).await.map(drop)
        }
        ("configmaps.", "kube-root-ca.crt") => {
            let api: Api<ConfigMap> = Api::namespaced(client.clone(), &gone.namespace);
            // Every namespace has the same one; this one may be where it is missing.
            let other = if gone.namespace == "default" {
                "kube-system"
            } else {
                "default"
            };
            let others: Api<ConfigMap> = Api::namespaced(client.clone(), other);
            let Ok(Some(found)) = others.get_opt(&gone.name).await else {
                return;
            };
            let mut map = ConfigMap {
                data: found.data,
                ..ConfigMap::default()
            };
            map.metadata.name = Some(gone.name.clone());
            api.create(&PostParams::default(), &map).await.map(drop)
        }
        _ => return,
    };
    // A namespace that is going refuses it.
    if !matches!(&made, Err(error) if super::is(error, 403)) {
        tell("furnishing a namespace", made);
    }
}

/// Deletes all content; whether every kind was told.
pub(super) async fn empty(client: &Client, namespace: &str, kinds: &[Arc<Kind>]) -> bool {
    let mut told = true;
    for kind in kinds {
        let api: Api<DynamicObject> =
            Api::namespaced_with(client.clone(), namespace, &kind.resource);
        let deleted = api
            .delete_collection(&DeleteParams::background(), &ListParams::default())
            .await;
        if let Err(error) = deleted
            && !super::is(&error, 404)
            && !super::is(&error, 405)
        {
            tracing::warn!(%error, namespace, kind = kind.id(), "emptying a namespace");
            told = false;
        }
    }
    // These are not watched, and nothing waits for them.
    for (group, version, name) in [
        ("", "v1", "Event"),
        ("coordination.k8s.io", "v1", "Lease"),
        ("", "v1", "Endpoints"),
    ] {
        let gvk = kube::core::GroupVersionKind::gvk(group, version, name);
        let mut resource = kube::api::ApiResource::from_gvk(&gvk);
        if name == "Endpoints" {
            resource.plural = "endpoints".into();
        }
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
        let _ = api
            .delete_collection(&DeleteParams::background(), &ListParams::default())
            .await;
    }
    told
}

/// Gives the namespace's own finalizer back, upon which it vanishes.
pub(super) async fn finalize(client: &Client, name: &str) {
    let api: Api<Namespace> = Api::all(client.clone());
    let result = async {
        let mut namespace =
            serde_json::to_value(api.get(name).await?).map_err(kube::Error::SerdeError)?;
        namespace["spec"] = json!({"finalizers": []});
        api.replace_subresource("finalize", name, &PostParams::default(), &namespace)
            .await
            .map(drop)
    };
    tell("finalizing a namespace", result.await);
}
