//! Where a step's fields may refer to what (T-044 to T-047, T-055, T-056).

use super::variable::{self, Names, Prefix};
use crate::{
    admission::{FieldError, FieldErrors},
    v1::{ParamSpec, Step},
};

/// What a field may hold: anywhere, or as arguments, where an array may spread.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Field,
    Argument,
    Script,
    OnError,
}

/// How mounts are named in paths, which differs by check.
#[derive(Clone, Copy)]
struct MountNames {
    path: &'static str,
    sub_path: &'static str,
}

const LOWER: MountNames = MountNames {
    path: "mountPath",
    sub_path: "subPath",
};
const UPPER: MountNames = MountNames {
    path: "MountPath",
    sub_path: "SubPath",
};

/// Applies `judge` to every text of the step that variables are looked for in.
fn each(
    step: &Step,
    mounts: MountNames,
    judge: impl Fn(&str, Place) -> Option<FieldError>,
) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let mut check = |text: &str, place: Place, prefix: &dyn Fn(FieldErrors) -> FieldErrors| {
        if let Some(error) = judge(text, place) {
            errors.add(prefix(error.into()));
        }
    };
    for (text, field, place) in [
        (&step.name, "name", Place::Field),
        (&step.image, "image", Place::Field),
        (&step.working_dir, "workingDir", Place::Field),
        (&step.script, "script", Place::Script),
    ] {
        check(text, place, &|e| e.via(field));
    }
    for (list, field) in [(&step.command, "command"), (&step.args, "args")] {
        for (index, text) in list.iter().enumerate() {
            check(text, Place::Argument, &|e| e.via_field_index(field, index));
        }
    }
    for env in &step.env {
        check(
            env.value.as_deref().unwrap_or_default(),
            Place::Field,
            &|e| e.via_field_key("env", &env.name),
        );
    }
    for (index, mount) in step.volume_mounts.iter().enumerate() {
        let fields = [
            (mount.name.as_str(), "name"),
            (&mount.mount_path, mounts.path),
            (
                mount.sub_path.as_deref().unwrap_or_default(),
                mounts.sub_path,
            ),
        ];
        for (text, field) in fields {
            check(text, Place::Field, &|e| {
                e.via(field).via_field_index("volumeMount", index)
            });
        }
    }
    check(&step.on_error, Place::OnError, &|e| e.via("onError"));
    errors
}

/// References under `prefix` to names that are not `known`.
pub(super) fn unknown(
    steps: &[Step],
    prefix: Prefix<'_>,
    known: &Names,
    detail: bool,
) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for (index, step) in steps.iter().enumerate() {
        let judge = |text: &str, place: Place| {
            variable::unknown(text, prefix, known, detail && place == Place::Script)
        };
        errors.add(each(step, UPPER, judge).via_field_index("steps", index));
    }
    errors
}

/// Arrays used where they cannot spread. Every later step is put before the path once more, as upstream does.
pub(super) fn arrays(steps: &[Step], arrays: &Names) -> FieldErrors {
    repeated_prefix(steps, |text, place| match place {
        Place::Argument => variable::not_isolated(text, Prefix::PARAMS, arrays),
        Place::OnError => None,
        _ => variable::prohibited(text, Prefix::PARAMS, arrays),
    })
}

/// Objects used as a whole, or with keys they do not have.
pub(super) fn objects(steps: &[Step], objects: &[&ParamSpec], detail: bool) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for object in objects {
        let keys: Names = object.properties.keys().cloned().collect();
        let prefix = format!("params.{}", object.name);
        errors.add(unknown(steps, Prefix::new(&prefix), &keys, detail));
    }
    let names: Names = objects.iter().map(|o| o.name.clone()).collect();
    errors.add(repeated_prefix(steps, |text, place| match place {
        Place::OnError => None,
        _ => variable::whole_prohibited(text, Prefix::PARAMS, &names),
    }));
    errors
}

fn repeated_prefix(
    steps: &[Step],
    judge: impl Fn(&str, Place) -> Option<FieldError>,
) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for (index, step) in steps.iter().enumerate() {
        errors.add(each(step, LOWER, &judge));
        errors = errors.via_field_index("steps", index);
    }
    errors
}
