//! Loading, listing and removing images, and what hostile archives cannot do.

mod images;

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

use images::{Entry, Layer, docker_archive, oci_layout, tar_dir};
use tektite_oci::{BuiltInContent, BuiltInFile, Error, ImageConfig, ImageStore, StoreOptions};

fn store(dir: &std::path::Path) -> ImageStore {
    let options = StoreOptions {
        durable: false,
        ..StoreOptions::default()
    };
    ImageStore::open_with(dir.join("store"), options).unwrap()
}

fn base() -> Layer {
    Layer::new(&[
        Entry::Dir("etc", 0o755),
        Entry::File("etc/os", 0o644, b"base"),
        Entry::File("bin/tool", 0o4755, b"#!/bin/sh\n"),
        Entry::Symlink("usr-bin", "bin"),
        Entry::Hardlink("bin/alias", "bin/tool"),
        Entry::Symlink("abs", "/etc/os"),
    ])
}

fn top() -> Layer {
    Layer::new(&[
        Entry::File("etc/.wh.os", 0o644, b""),
        Entry::Dir("var", 0o700),
        Entry::File("var/.wh..wh..opq", 0o644, b""),
        Entry::File("var/new", 0o600, b"x"),
    ])
}

#[test]
fn a_docker_archive_becomes_layers_ready_for_overlayfs() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let archive = dir.path().join("app.tar");
    docker_archive(
        &archive,
        &["app:1", "example.com/app:1"],
        &[base(), top()],
        false,
    );

    let loaded = store.load(&archive).unwrap();
    let names: Vec<&str> = loaded
        .iter()
        .map(|image| image.reference.as_str())
        .collect();
    assert_eq!(names, ["docker.io/library/app:1", "example.com/app:1"]);

    let image = store.get("app:1").unwrap().unwrap();
    assert_eq!(image.config.entrypoint, ["/bin/tool"]);
    assert_eq!(image.config.architecture, images::architecture());
    assert_eq!(image.layers.len(), 2);
    let [low, high] = &image.layers[..] else {
        panic!()
    };
    assert_eq!(fs::read(low.join("etc/os")).unwrap(), b"base");
    assert_eq!(
        fs::metadata(low.join("bin/tool")).unwrap().mode() & 0o7777,
        0o4755
    );
    assert_eq!(
        fs::metadata(low.join("bin/tool")).unwrap().ino(),
        fs::metadata(low.join("bin/alias")).unwrap().ino()
    );
    assert_eq!(
        fs::read_link(low.join("abs")).unwrap().to_str(),
        Some("/etc/os")
    );
    let whiteout = fs::symlink_metadata(high.join("etc/os")).unwrap();
    assert!(whiteout.file_type().is_char_device() && whiteout.rdev() == 0);
    assert!(!high.join("etc/.wh.os").exists() && !high.join("var/.wh..wh..opq").exists());
    assert_eq!(
        fs::metadata(high.join("var")).unwrap().permissions().mode() & 0o777,
        0o700
    );
    let mut value = [0u8; 8];
    let opaque =
        rustix::fs::getxattr(high.join("var"), c"user.overlay.opaque", &mut value).unwrap();
    assert_eq!(&value[..opaque], b"y");
}

#[test]
fn an_oci_layout_loads_from_a_directory_and_from_a_compressed_tar_alike() {
    // K-325: the image for this platform is taken from the index.
    let dir = tempfile::tempdir().unwrap();
    let layout = dir.path().join("layout");
    oci_layout(&layout, &[base(), top()]);
    let tar = dir.path().join("layout.tar.gz");
    tar_dir(&layout, &tar);

    let mut digests = Vec::new();
    for (at, path) in [&layout, &tar].into_iter().enumerate() {
        let store = store(&dir.path().join(at.to_string()));
        let loaded = store.load(path).unwrap();
        assert_eq!(loaded[0].reference, "docker.io/library/layout:1.0");
        let image = store.get("layout:1.0").unwrap().unwrap();
        assert_eq!(fs::read(image.layers[0].join("etc/os")).unwrap(), b"base");
        let index = image.index_digest.clone().unwrap();
        let by_digest = store.get(&format!("layout@{index}")).unwrap().unwrap();
        assert_eq!(by_digest.digest, image.digest);
        assert_eq!(
            image.id(),
            format!("docker.io/library/layout@{}", image.digest)
        );
        digests.push(image.digest);
    }
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn removing_an_image_keeps_what_others_share_or_use() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let one = dir.path().join("one.tar");
    let two = dir.path().join("two.tar");
    docker_archive(&one, &["one"], &[base()], true);
    docker_archive(&two, &["two"], &[base(), top()], false);
    store.load(&one).unwrap();
    store.load(&two).unwrap();

    let shared = store.get("one").unwrap().unwrap().layers[0].clone();
    let used = store.get("two").unwrap().unwrap();
    assert_eq!(used.layers[0], shared);
    // A second opener stands for another process: locks belong to open files, not to processes.
    let other = self::store(dir.path());
    assert!(other.remove("one").unwrap());
    assert!(!other.remove("one").unwrap());
    assert!(other.remove("two").unwrap());
    assert!(other.get("two").unwrap().is_none());
    assert!(
        used.layers.iter().all(|layer| layer.is_dir()),
        "layers in use stay"
    );
    drop(used);
    assert!(!other.remove("two").unwrap());
    assert!(!shared.exists(), "and go once they are free");
    assert!(store.list().unwrap().is_empty());
}

#[test]
fn archives_that_reach_outside_are_refused_and_leave_nothing() {
    let cases: [(&str, &[Entry<'_>]); 6] = [
        (
            "a path above the root",
            &[Entry::File("../evil", 0o644, b"x")],
        ),
        (
            "a path above the root, deeper",
            &[Entry::File("a/../../evil", 0o644, b"x")],
        ),
        (
            "a hard link above the root",
            &[Entry::Hardlink("link", "../../secret")],
        ),
        (
            "a hard link through a link",
            &[
                Entry::Symlink("out", "/"),
                Entry::Hardlink("link", "out/SECRET"),
            ],
        ),
        (
            "a file below a link that leads nowhere",
            &[
                Entry::Symlink("out", "/nowhere"),
                Entry::File("out/x", 0o644, b"x"),
            ],
        ),
        (
            "a whiteout of the directory above",
            &[Entry::File("a/.wh...", 0o644, b"")],
        ),
    ];
    for (name, entries) in cases {
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("secret");
        fs::write(&secret, "secret").unwrap();
        let entries: Vec<Entry<'_>> = entries
            .iter()
            .map(|entry| match entry {
                Entry::Hardlink(at, "out/SECRET") => Entry::Hardlink(
                    at,
                    Box::leak(format!("out{}", secret.display()).into_boxed_str()),
                ),
                other => *other,
            })
            .collect();
        let store = store(dir.path());
        let archive = dir.path().join("evil.tar");
        docker_archive(&archive, &["evil"], &[Layer::new(&entries)], false);
        let result = store.load(&archive);
        assert!(result.is_err(), "{name}");
        assert!(
            store.list().unwrap().is_empty() && store.get("evil").unwrap().is_none(),
            "{name}"
        );
        assert!(
            !dir.path().join("evil").exists() && fs::metadata(&secret).unwrap().nlink() == 1,
            "{name}"
        );
        for part in ["layers", "tmp"] {
            assert_eq!(
                fs::read_dir(dir.path().join("store").join(part))
                    .unwrap()
                    .count(),
                0,
                "{name}: {part}"
            );
        }
    }
}

#[test]
fn writing_through_a_link_stays_within_the_layer() {
    let dir = tempfile::tempdir().unwrap();
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let target: &str = Box::leak(outside.display().to_string().into_boxed_str());
    let store = store(dir.path());
    let archive = dir.path().join("a.tar");
    // The target exists inside the layer too, so the write is legal, and lands there.
    let inside: &str = Box::leak(format!("{}/", target.trim_start_matches('/')).into_boxed_str());
    docker_archive(
        &archive,
        &["a"],
        &[Layer::new(&[
            Entry::Dir(inside, 0o755),
            Entry::Symlink("out", target),
            Entry::File("out/x", 0o644, b"x"),
        ])],
        false,
    );
    store.load(&archive).unwrap();
    let image = store.get("a").unwrap().unwrap();
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert_eq!(
        fs::read(image.layers[0].join(inside).join("x")).unwrap(),
        b"x"
    );
}

#[test]
fn a_layer_with_other_bytes_than_its_digest_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let layout = dir.path().join("layout");
    oci_layout(&layout, &[base()]);
    for blob in fs::read_dir(layout.join("blobs/sha256"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
    {
        let bytes = fs::read(&blob).unwrap();
        if bytes.starts_with(&[0x1f, 0x8b]) {
            fs::write(&blob, images::gzip(b"other")).unwrap();
        }
    }
    assert!(matches!(
        store.load(&layout),
        Err(Error::DigestMismatch { .. }) | Err(Error::Io { .. })
    ));
    assert!(store.list().unwrap().is_empty());
}

#[test]
fn an_oci_layout_whose_blobs_are_links_out_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let layout = dir.path().join("layout");
    oci_layout(&layout, &[base()]);
    let outside = dir.path().join("outside");
    fs::rename(layout.join("blobs"), &outside).unwrap();
    std::os::unix::fs::symlink(&outside, layout.join("blobs")).unwrap();
    assert!(matches!(
        store.load(&layout),
        Err(Error::HostileArchive { .. })
    ));
}

#[test]
fn what_a_dead_process_left_is_swept_and_what_is_no_archive_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(store(dir.path()));
    let left = dir.path().join("store/tmp/1-0/layer-0");
    fs::create_dir_all(&left).unwrap();
    let store = store(dir.path());
    assert!(!left.exists());
    let text = dir.path().join("text");
    fs::write(&text, "no archive at all").unwrap();
    for path in [&text, &dir.path().join("missing"), &left] {
        assert!(store.load(path).is_err(), "{}", path.display());
    }
}

#[test]
fn a_built_in_image_holds_its_files_and_is_added_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let files = |content: &'static [u8]| {
        [
            BuiltInFile {
                path: "/entrypoint",
                mode: 0o755,
                content: BuiltInContent::Bytes(content),
            },
            BuiltInFile {
                path: "/ko-app/nop",
                mode: 0o777,
                content: BuiltInContent::LinkTo("../entrypoint"),
            },
        ]
    };
    let config = ImageConfig {
        entrypoint: vec!["/entrypoint".into()],
        ..ImageConfig::default()
    };
    let first = store
        .add_built_in("tektite.dev/entrypoint:1", &files(b"one"), config.clone())
        .unwrap();
    let again = store
        .add_built_in("tektite.dev/entrypoint:1", &files(b"one"), config.clone())
        .unwrap();
    assert_eq!(first.digest, again.digest);
    let path = first.layers[0].join("entrypoint");
    assert_eq!(
        (
            fs::read(&path).unwrap(),
            fs::metadata(&path).unwrap().mode() & 0o777
        ),
        (b"one".to_vec(), 0o755)
    );
    assert_eq!(
        fs::read(first.layers[0].join("ko-app/nop")).unwrap(),
        b"one",
        "the link"
    );
    let other = store
        .add_built_in("tektite.dev/entrypoint:1", &files(b"two"), config)
        .unwrap();
    assert_ne!(first.digest, other.digest);
    assert!(store.list().unwrap().iter().all(|image| image.built_in));
}

#[test]
fn a_rule_for_all_images_leaves_built_in_ones_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let file = BuiltInFile {
        path: "/entrypoint",
        mode: 0o755,
        content: BuiltInContent::Bytes(b"one"),
    };
    store
        .add_built_in("tektite/entrypoint", &[file], ImageConfig::default())
        .unwrap();
    fs::write(dir.path().join("store/images.yaml"), "'*': host\n").unwrap();
    assert!(store.get("alpine").unwrap().unwrap().is_host());
    assert!(!store.get("tektite/entrypoint").unwrap().unwrap().is_host());
}

#[test]
fn the_host_image_has_no_layers_and_names_can_be_mapped_to_it_while_running() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let host = store.get("host").unwrap().unwrap();
    assert!(host.is_host() && host.layers.is_empty() && !host.config.env.is_empty());
    assert!(store.get("alpine:3").unwrap().is_none());
    fs::write(dir.path().join("store/images.yaml"), "alpine: host\n").unwrap();
    assert!(store.get("alpine:3").unwrap().unwrap().is_host());
    // A step's image is rewritten to its digest once its command was looked up.
    assert!(
        store
            .get(&format!("other.io/x@{}", host.digest))
            .unwrap()
            .unwrap()
            .is_host()
    );
    fs::write(dir.path().join("store/images.yaml"), "- no map").unwrap();
    assert!(matches!(store.get("alpine"), Err(Error::Mapping { .. })));
}

#[test]
fn several_openers_load_the_same_image_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("app.tar");
    docker_archive(&archive, &["app"], &[base(), top()], true);
    let results: Vec<bool> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6)
            .map(|_| scope.spawn(|| store(dir.path()).load(&archive).is_ok()))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert_eq!(results, [true; 6]);
    let image = store(dir.path()).get("app").unwrap().unwrap();
    assert_eq!(
        fs::read_dir(image.layers[0].parent().unwrap())
            .unwrap()
            .count(),
        2
    );
}
