//! Archives of images, docker's and OCI's, as `image load` reads them.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use tektite_oci::ImageStore;
use tempfile::TempDir;

thread_local! {
    static DIRECTORY: RefCell<Option<(TempDir, usize)>> = const { RefCell::new(None) };
}

fuzz_target!(|data: &[u8]| {
    DIRECTORY.with_borrow_mut(|slot| {
        if slot.as_ref().is_some_and(|(_, used)| *used > 1000) {
            *slot = None;
        }
        let (directory, used) =
            slot.get_or_insert_with(|| (tempfile::tempdir().expect("a directory"), 0));
        *used += 1;
        let archive = directory.path().join("archive.tar");
        std::fs::write(&archive, data).expect("written");
        let store = ImageStore::open(directory.path().join("store")).expect("a store");
        if let Ok(images) = store.load(&archive) {
            for image in images {
                let _ = store.list();
                drop(image);
            }
        }
    });
});
