//! Requests to the API server: any path, query, content type and body is answered, and by no internal error but those that
//! Kubernetes has, too.
//!
//! The first line is method and path, the second the content type; the rest is the body.
#![no_main]

use std::cell::RefCell;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::BodyExt;
use kube::client::Body;
use libfuzzer_sys::fuzz_target;
use tektite_apiserver::{ApiServer, Identity, Options, Store};
use tokio::runtime::Runtime;
use tower::ServiceExt;

struct Server {
    runtime: Runtime,
    server: ApiServer,
    requests: usize,
}

impl Server {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let options = Options {
            store: Store::Memory,
            ..Options::default()
        };
        let server = runtime
            .block_on(ApiServer::start(options))
            .expect("the server starts");
        let mut this = Self {
            runtime,
            server,
            requests: 0,
        };
        for (path, body) in SET_UP {
            let answer = this.ask(
                Method::POST,
                path,
                "application/json",
                Bytes::from_static(body.as_bytes()),
            );
            assert_eq!(answer.map(|(code, _)| code), Some(201), "{path}");
        }
        this
    }

    /// The code of the answer, and its text unless it goes on for ever; none if that is no request.
    fn ask(
        &mut self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Bytes,
    ) -> Option<(u16, String)> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", content_type)
            .body(Body::from(body.to_vec()))
            .ok()?;
        self.requests += 1;
        let service = self.server.client_service(Identity::admin());
        self.runtime.block_on(async {
            let response = service
                .oneshot(request)
                .await
                .expect("requests are answered");
            let code = response.status().as_u16();
            let mut text = Vec::new();
            let watching = path.contains("watch");
            if !watching {
                let body = response.into_body().collect().await;
                text = body.expect("answers have an end").to_bytes().to_vec();
            }
            Some((code, String::from_utf8_lossy(&text).into_owned()))
        })
    }
}

/// Something to read and to patch, and a kind with columns by JSONPath.
const SET_UP: [(&str, &str); 3] = [
    (
        "/api/v1/namespaces/default/configmaps",
        r#"{"metadata": {"name": "a", "labels": {"a": "b"}}, "data": {"k": "v"}}"#,
    ),
    (
        "/api/v1/namespaces/default/pods",
        r#"{"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "image": "i", "env": [{"name": "E", "value": "1"}]}]}}"#,
    ),
    (
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        r#"{"metadata": {"name": "things.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "things", "kind": "Thing"}, "versions": [{"name": "v1", "served": true, "storage": true,
            "additionalPrinterColumns": [{"name": "A", "type": "string", "jsonPath": ".spec.a[?(@.b=='c')].d"}],
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object",
            "x-kubernetes-preserve-unknown-fields": true}}}}}]}}"#,
    ),
];

/// Strategic patches with a list item that has no merge key, or with a directive that there is not (K-109).
const KNOWN: [&str; 2] = ["does not contain declared merge key", "unknown patch type"];

thread_local! {
    static SERVER: RefCell<Option<Server>> = const { RefCell::new(None) };
}

/// How many requests a server gets: what they leave behind adds up.
const REQUESTS: usize = 5000;

fuzz_target!(|data: &[u8]| {
    let mut lines = data.splitn(3, |byte| *byte == b'\n');
    let mut line = || lines.next().and_then(|line| std::str::from_utf8(line).ok());
    let (Some(first), Some(content_type)) = (line(), line()) else {
        return;
    };
    let Some((method, path)) = first.split_once(' ') else {
        return;
    };
    let Ok(method) = method.parse::<Method>() else {
        return;
    };
    let body = Bytes::copy_from_slice(lines.next().unwrap_or_default());
    SERVER.with_borrow_mut(|server| {
        if server
            .as_ref()
            .is_some_and(|server| server.requests > REQUESTS)
        {
            *server = None;
        }
        let server = server.get_or_insert_with(Server::start);
        let Some((500, text)) = server.ask(method, path, content_type, body) else {
            return;
        };
        let known = KNOWN.iter().any(|known| text.contains(known));
        assert!(known, "an internal error: {first}: {text}");
    });
});
