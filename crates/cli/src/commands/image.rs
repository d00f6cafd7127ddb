//! `tektite image load|list|rm`: the images of the local cluster.

use tektite_oci::{ImageStore, ImageSummary};

use crate::arguments::{DataDir, Image};
use crate::data_dir;
use crate::exit::{Exit, Failure, Outcome};
use crate::terminal::{print, table};

/// Works on the store directly: a running cluster sees the change at once.
pub fn run(arguments: &Image) -> Outcome {
    match arguments {
        Image::Load { path, data_dir } => {
            let loaded = open(data_dir)?.load(path).map_err(|error| {
                Failure::new(Exit::Refused, format!("cannot load {}: {error}", path.display()))
                    .hint("it takes a docker-archive (`docker save`), an OCI layout as tar, or an OCI layout directory")
            })?;
            for image in &loaded {
                print(&format!("loaded {}\n", image.reference));
            }
            Ok(Exit::Success)
        }
        Image::List { data_dir } => {
            let images = open(data_dir)?.list().map_err(failed)?;
            print(&table::render(&rows(&images), 0));
            Ok(Exit::Success)
        }
        Image::Rm { images, data_dir } => remove(&open(data_dir)?, images),
    }
}

fn open(arguments: &DataDir) -> Result<ImageStore, Failure> {
    let directory = data_dir::of(arguments);
    let options = tektite_oci::StoreOptions {
        mapping_file: Some(directory.join(data_dir::IMAGE_MAP)),
        ..tektite_oci::StoreOptions::default()
    };
    ImageStore::open_with(directory.join(data_dir::IMAGES), options).map_err(failed)
}

fn failed(error: tektite_oci::Error) -> Failure {
    Failure::new(Exit::Failed, error.to_string())
}

fn rows(images: &[ImageSummary]) -> Vec<Vec<String>> {
    let mut rows = vec![["IMAGE", "DIGEST", "SIZE"].map(str::to_owned).to_vec()];
    rows.extend(images.iter().map(|image| {
        let digest = image
            .digest
            .strip_prefix("sha256:")
            .unwrap_or(&image.digest);
        let short = digest.get(..12).unwrap_or(digest).to_owned();
        vec![image.reference.clone(), short, size(image.size)]
    }));
    rows
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.2} GiB", bytes as f64 / 1_073_741_824.0),
    }
}

fn remove(store: &ImageStore, images: &[String]) -> Outcome {
    let mut missing = Vec::new();
    for image in images {
        match store.remove(image) {
            Ok(true) => print(&format!("removed {image}\n")),
            Ok(false) => missing.push(image.clone()),
            Err(error) => return Err(failed(error)),
        }
    }
    if missing.is_empty() {
        return Ok(Exit::Success);
    }
    Err(Failure::new(
        Exit::Failed,
        format!("no such image: {}", missing.join(", ")),
    )
    .hint("`tektite image list` shows the images there are"))
}
