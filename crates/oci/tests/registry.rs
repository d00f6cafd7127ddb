//! Pulling from a registry that speaks the distribution API, with and without credentials.

mod images;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use images::{Entry, Layer, image_blobs};
use tektite_oci::{Credentials, Error, ImageStore, Lookups, PullPolicy, StoreOptions};

struct Registry {
    blobs: HashMap<String, Vec<u8>>,
    tags: HashMap<String, String>,
    user: Option<String>,
    manifests_served: AtomicUsize,
    blobs_served: AtomicUsize,
}

async fn serve(
    State(registry): State<Arc<Registry>>,
    path: Option<Path<String>>,
    headers: HeaderMap,
) -> Response {
    if let Some(user) = &registry.user {
        let expected = format!(
            "Basic {}",
            base64::engine::general_purpose::STANDARD.encode(user)
        );
        if headers
            .get(header::AUTHORIZATION)
            .is_none_or(|given| given != expected.as_str())
        {
            return (
                StatusCode::UNAUTHORIZED,
                [(header::WWW_AUTHENTICATE, "Basic realm=\"r\"")],
                r#"{"errors":[]}"#,
            )
                .into_response();
        }
    }
    let path = path.map(|Path(path)| path).unwrap_or_default();
    let missing = |code: &str| {
        (
            StatusCode::NOT_FOUND,
            format!(r#"{{"errors":[{{"code":"{code}","message":"m"}}]}}"#),
        )
            .into_response()
    };
    if let Some((_, version)) = path.split_once("/manifests/") {
        registry.manifests_served.fetch_add(1, Ordering::Relaxed);
        let digest = registry.tags.get(version).map_or(version, String::as_str);
        let Some(bytes) = registry.blobs.get(digest) else {
            return missing("MANIFEST_UNKNOWN");
        };
        let media_type = serde_json::from_slice::<serde_json::Value>(bytes).unwrap()["mediaType"]
            .as_str()
            .unwrap()
            .to_owned();
        return (
            [
                (header::CONTENT_TYPE, media_type),
                (
                    header::HeaderName::from_static("docker-content-digest"),
                    digest.to_owned(),
                ),
            ],
            bytes.clone(),
        )
            .into_response();
    }
    if let Some((_, digest)) = path.split_once("/blobs/") {
        registry.blobs_served.fetch_add(1, Ordering::Relaxed);
        return registry
            .blobs
            .get(digest)
            .cloned()
            .map_or_else(|| missing("BLOB_UNKNOWN"), IntoResponse::into_response);
    }
    StatusCode::OK.into_response()
}

async fn start(user: Option<&str>, damage: bool) -> (String, String, Arc<Registry>) {
    let layer = Layer::new(&[Entry::File("etc/os", 0o644, b"base")]);
    let (index, mut blobs) = image_blobs(&[layer]);
    let odd = br#"{"mediaType":"application/vnd.example.thing+json"}"#;
    let odd_digest = images::digest(odd);
    blobs.push((odd_digest.clone(), odd.to_vec()));
    let mut blobs: HashMap<_, _> = blobs.into_iter().collect();
    if damage {
        for bytes in blobs
            .values_mut()
            .filter(|bytes| bytes.starts_with(&[0x1f, 0x8b]))
        {
            *bytes = images::gzip(b"other");
        }
    }
    let registry = Arc::new(Registry {
        blobs,
        tags: HashMap::from([
            ("1".to_owned(), index.clone()),
            ("odd".to_owned(), odd_digest),
        ]),
        user: user.map(str::to_owned),
        manifests_served: AtomicUsize::new(0),
        blobs_served: AtomicUsize::new(0),
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let router = axum::Router::new()
        .route("/v2/", axum::routing::get(serve))
        .route("/v2/{*path}", axum::routing::get(serve))
        .with_state(registry.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, index, registry)
}

fn store(dir: &std::path::Path) -> ImageStore {
    ImageStore::open_with(
        dir.join("store"),
        StoreOptions {
            durable: false,
            ..StoreOptions::default()
        },
    )
    .unwrap()
}

#[tokio::test]
async fn an_image_is_pulled_by_tag_and_by_digest_and_policies_say_when() {
    // K-325
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let (address, index, registry) = start(None, false).await;
    let none = Credentials::none();
    let name = format!("{address}/team/app:1");

    let refused = store.pull(&name, &none, PullPolicy::Never).await;
    assert!(matches!(refused, Err(Error::NeverPull { .. })));
    let image = store
        .pull(&name, &none, PullPolicy::IfNotPresent)
        .await
        .unwrap();
    assert_eq!(
        std::fs::read(image.layers[0].join("etc/os")).unwrap(),
        b"base"
    );
    assert_eq!(image.index_digest.as_deref(), Some(index.as_str()));
    assert_eq!(image.config.architecture, images::architecture());
    assert_eq!(image.id(), format!("{address}/team/app@{}", image.digest));

    let (manifests, blobs) = (
        registry.manifests_served.load(Ordering::Relaxed),
        registry.blobs_served.load(Ordering::Relaxed),
    );
    store
        .pull(&name, &none, PullPolicy::IfNotPresent)
        .await
        .unwrap();
    assert_eq!(
        registry.manifests_served.load(Ordering::Relaxed),
        manifests,
        "what is present is not asked for"
    );
    store.pull(&name, &none, PullPolicy::Always).await.unwrap();
    assert!(registry.manifests_served.load(Ordering::Relaxed) > manifests);
    assert_eq!(
        registry.blobs_served.load(Ordering::Relaxed),
        blobs + 1,
        "only the configuration is fetched again"
    );

    for digest in [&index, &image.digest] {
        let by_digest = store
            .pull(
                &format!("{address}/team/app@{digest}"),
                &none,
                PullPolicy::Always,
            )
            .await
            .unwrap();
        assert_eq!(by_digest.digest, image.digest);
    }
    assert!(store.remove(&name).unwrap());
}

#[tokio::test]
async fn a_missing_image_damaged_layers_and_an_unreachable_registry_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let none = Credentials::none();
    let (address, _, _) = start(None, false).await;
    let missing = store
        .pull(&format!("{address}/team/app:2"), &none, PullPolicy::Always)
        .await;
    assert!(
        matches!(missing, Err(Error::NotFound { .. })),
        "{missing:?}"
    );
    let (address, _, _) = start(None, true).await;
    let damaged = store
        .pull(&format!("{address}/team/app:1"), &none, PullPolicy::Always)
        .await;
    assert!(
        matches!(
            damaged,
            Err(Error::DigestMismatch { .. } | Error::Registry { .. })
        ),
        "{damaged:?}"
    );
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let unreachable = store
        .pull(&format!("{closed}/a:1"), &none, PullPolicy::Always)
        .await;
    assert!(
        matches!(unreachable, Err(Error::Registry { .. })),
        "{unreachable:?}"
    );
    assert!(store.list().unwrap().is_empty());
}

#[tokio::test]
async fn credentials_are_tried_in_turn_until_one_fits() {
    // K-324
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let (address, _, _) = start(Some("right:password"), false).await;
    let name = format!("{address}/team/app:1");
    let refused = store
        .pull(&name, &Credentials::none(), PullPolicy::Always)
        .await;
    assert!(
        matches!(refused, Err(Error::Unauthorized { .. })),
        "{refused:?}"
    );
    let mut credentials = Credentials::none();
    credentials.add_basic(&format!("{address}/team"), "wrong", "password");
    credentials.add_basic(&address, "right", "password");
    store
        .pull(&name, &credentials, PullPolicy::Always)
        .await
        .unwrap();
}

/// T-262: of a tag that did not move nothing but the tag is asked for again, and no layer is ever.
#[tokio::test]
async fn a_lookup_reads_manifests_and_configurations_once_and_no_layers() {
    let (address, index, registry) = start(None, false).await;
    let lookups = Lookups::default();
    let tag = format!("{address}/team/app:1").parse().unwrap();
    let served = || {
        let manifests = registry.manifests_served.load(Ordering::Relaxed);
        (manifests, registry.blobs_served.load(Ordering::Relaxed))
    };
    let found = lookups.look_up(&tag, &Credentials::none()).await.unwrap();
    let platforms: Vec<_> = found.commands.keys().cloned().collect();
    let here = format!("linux/{}", images::architecture());
    assert_eq!(platforms, [here, "linux/s390x".to_owned()]);
    assert_eq!(
        served(),
        (3, 2),
        "the index, and two images' manifests and configurations"
    );
    lookups.look_up(&tag, &Credentials::none()).await.unwrap();
    assert_eq!(served(), (4, 2));
    let digest = format!("{address}/team/app@{index}").parse().unwrap();
    lookups
        .look_up(&digest, &Credentials::none())
        .await
        .unwrap();
    assert_eq!(served(), (4, 2));
}

/// T-261
#[tokio::test]
async fn what_is_neither_an_image_nor_an_index_has_no_command() {
    let (address, _, registry) = start(None, false).await;
    let odd = format!("{address}/team/app:odd").parse().unwrap();
    let error = Lookups::default()
        .look_up(&odd, &Credentials::none())
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "unsupported media type for image reference"
    );
    assert_eq!(registry.blobs_served.load(Ordering::Relaxed), 0);
}
