//! The kinds a local cluster serves, and the type each is checked against.

use k8s_openapi::api::{apps, core, rbac};
use tektite_api::{v1, v1alpha1, v1beta1};

use super::suggest;
use crate::diagnostic::Diagnostic;
use crate::manifest::{self, Document, Findings, Node};

type Check = fn(&Node) -> Findings;

/// One served kind.
pub struct Kind {
    /// As written in `apiVersion`.
    pub api_version: &'static str,
    /// As written in `kind`.
    pub kind: &'static str,
    /// Reads a document as the kind's type.
    pub check: Option<Check>,
}

const fn kind(api_version: &'static str, kind: &'static str, check: Check) -> Kind {
    Kind {
        api_version,
        kind,
        check: Some(check),
    }
}

/// Every kind that is known here. Kinds of CustomResourceDefinitions come on top.
pub const KINDS: &[Kind] = &[
    kind("tekton.dev/v1", "Task", manifest::check::<v1::Task>),
    kind("tekton.dev/v1", "TaskRun", manifest::check::<v1::TaskRun>),
    kind("tekton.dev/v1", "Pipeline", manifest::check::<v1::Pipeline>),
    kind(
        "tekton.dev/v1",
        "PipelineRun",
        manifest::check::<v1::PipelineRun>,
    ),
    kind("tekton.dev/v1beta1", "Task", manifest::check::<v1::Task>),
    kind(
        "tekton.dev/v1beta1",
        "TaskRun",
        manifest::check::<v1::TaskRun>,
    ),
    kind(
        "tekton.dev/v1beta1",
        "Pipeline",
        manifest::check::<v1::Pipeline>,
    ),
    kind(
        "tekton.dev/v1beta1",
        "PipelineRun",
        manifest::check::<v1::PipelineRun>,
    ),
    kind(
        "tekton.dev/v1beta1",
        "StepAction",
        manifest::check::<v1beta1::StepAction>,
    ),
    kind(
        "tekton.dev/v1alpha1",
        "StepAction",
        manifest::check::<v1beta1::StepAction>,
    ),
    kind(
        "tekton.dev/v1beta1",
        "CustomRun",
        manifest::check::<v1beta1::CustomRun>,
    ),
    kind(
        "tekton.dev/v1alpha1",
        "VerificationPolicy",
        manifest::check::<v1alpha1::VerificationPolicy>,
    ),
    kind("v1", "ConfigMap", manifest::check::<core::v1::ConfigMap>),
    kind("v1", "Event", manifest::check::<core::v1::Event>),
    kind("v1", "LimitRange", manifest::check::<core::v1::LimitRange>),
    kind("v1", "Namespace", manifest::check::<core::v1::Namespace>),
    kind(
        "v1",
        "PersistentVolume",
        manifest::check::<core::v1::PersistentVolume>,
    ),
    kind(
        "v1",
        "PersistentVolumeClaim",
        manifest::check::<core::v1::PersistentVolumeClaim>,
    ),
    kind("v1", "Pod", manifest::check::<core::v1::Pod>),
    kind(
        "v1",
        "ResourceQuota",
        manifest::check::<core::v1::ResourceQuota>,
    ),
    kind("v1", "Secret", manifest::check::<core::v1::Secret>),
    kind("v1", "Service", manifest::check::<core::v1::Service>),
    kind(
        "v1",
        "ServiceAccount",
        manifest::check::<core::v1::ServiceAccount>,
    ),
    kind(
        "apps/v1",
        "Deployment",
        manifest::check::<apps::v1::Deployment>,
    ),
    kind(
        "apps/v1",
        "StatefulSet",
        manifest::check::<apps::v1::StatefulSet>,
    ),
    kind(
        "rbac.authorization.k8s.io/v1",
        "ClusterRole",
        manifest::check::<rbac::v1::ClusterRole>,
    ),
    kind(
        "rbac.authorization.k8s.io/v1",
        "ClusterRoleBinding",
        manifest::check::<rbac::v1::ClusterRoleBinding>,
    ),
    kind(
        "rbac.authorization.k8s.io/v1",
        "Role",
        manifest::check::<rbac::v1::Role>,
    ),
    kind(
        "rbac.authorization.k8s.io/v1",
        "RoleBinding",
        manifest::check::<rbac::v1::RoleBinding>,
    ),
    Kind {
        api_version: "apiextensions.k8s.io/v1",
        kind: "CustomResourceDefinition",
        check: None,
    },
    Kind {
        api_version: "resolution.tekton.dev/v1beta1",
        kind: "ResolutionRequest",
        check: None,
    },
];

/// The kind of a document, if it is known.
pub fn find(document: &Document) -> Option<&'static Kind> {
    KINDS
        .iter()
        .find(|known| known.api_version == document.api_version && known.kind == document.kind)
}

/// Whether Tekton's admission judges it.
pub fn is_tekton(document: &Document) -> bool {
    matches!(document.group(), "tekton.dev" | "resolution.tekton.dev")
}

/// Whether some kind of the document's API group is known, so that an unknown kind in it must be a mistake.
pub fn group_is_known(document: &Document) -> bool {
    KINDS
        .iter()
        .any(|known| group(known.api_version) == document.group())
}

/// What is wrong with an unknown kind.
pub fn unknown(document: &Document) -> Diagnostic {
    let same_kind: Vec<&str> = KINDS
        .iter()
        .filter(|known| known.kind == document.kind)
        .map(|known| known.api_version)
        .collect();
    if !same_kind.is_empty() {
        return document
            .error_at(
                "apiVersion",
                format!("no kind {} in {}", document.kind, document.api_version),
            )
            .hint(format!("write `apiVersion: {}`", same_kind[0]));
    }
    if group_is_known(document) {
        let kinds = KINDS
            .iter()
            .filter(|known| group(known.api_version) == document.group())
            .map(|known| known.kind);
        let hint = suggest::did_you_mean(&document.kind, "kinds of this group", kinds);
        return document
            .error_at(
                "kind",
                format!("no kind {} in {}", document.kind, document.api_version),
            )
            .hint(hint);
    }
    let hint = suggest::did_you_mean(
        &document.api_version,
        "API versions",
        KINDS.iter().map(|known| known.api_version),
    );
    document
        .error_at(
            "apiVersion",
            format!("unknown kind {} of {}", document.kind, document.api_version),
        )
        .hint(hint)
}

fn group(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}
