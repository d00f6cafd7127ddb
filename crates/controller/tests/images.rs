//! Whether the commands of images are looked up again (T-262).

mod fake;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use fake::FakeApi;
use fake::cluster::{Running, TASK_RUNS, one_step, pod_of};
use futures::future::BoxFuture;
use serde_json::json;
use tektite_controller::{ControllerOptions, ImageConfigs, ImageError, Keychain};
use tektite_engine::decision::{ImageCommand, ImageCommands};

/// Knows every image, and remembers which it was asked for.
#[derive(Default)]
struct Registry {
    asked: Mutex<Vec<String>>,
}

impl ImageConfigs for Registry {
    fn look_up<'a>(
        &'a self,
        image: &'a str,
        _: &'a dyn Keychain,
    ) -> BoxFuture<'a, Result<ImageCommands, ImageError>> {
        self.asked.lock().unwrap().push(image.to_owned());
        let command = ImageCommand {
            entrypoint: vec!["run".into()],
            cmd: Vec::new(),
        };
        let commands = ImageCommands {
            pinned: format!("registry.example/image@{DIGEST}"),
            platforms: BTreeMap::from([("linux/amd64".to_owned(), command)]),
        };
        Box::pin(async move { Ok(commands) })
    }
}

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[tokio::test]
async fn what_a_digest_names_is_looked_up_once_and_what_a_tag_names_each_time() {
    // T-262
    let api = FakeApi::new();
    let registry = Arc::new(Registry::default());
    let options = ControllerOptions {
        image_configs: registry.clone(),
        ..ControllerOptions::default()
    };
    let controller = Running::start(&api, options);
    let tagged = "registry.example/image:1".to_owned();
    let pinned = format!("registry.example/image@{DIGEST}");
    let other = format!("registry.example/other@{DIGEST}");
    let images = [&tagged, &pinned, &tagged, &other, &other];
    for (number, image) in images.into_iter().enumerate() {
        let name = format!("r{number}");
        let mut run = one_step(&name);
        run["spec"]["taskSpec"]["steps"] = json!([{"name": "s", "image": image}]);
        api.create(TASK_RUNS, run);
        pod_of(&api, &name).await;
    }
    // The tag's answer named the digest, so that is known before anybody asks for it.
    assert_eq!(
        *registry.asked.lock().unwrap(),
        [&tagged, &tagged, &other].map(String::clone)
    );
    controller.stop().await;
}
