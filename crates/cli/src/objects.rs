//! Objects as JSON: finding runs by name, printing lists.

use kube::api::Api;
use serde_json::{Value, json};
use tektite_api::v1::{PipelineRun, TaskRun};

use crate::arguments::Format;
use crate::connect::{Connection, api_failure};
use crate::exit::{Exit, Failure};
use crate::view::{Root, RootKind};

/// Finds the run that `text` means: a name, or `kind/name` with the kinds and short names of kubectl.
pub async fn find_run(connection: &Connection, text: &str) -> Result<Root, Failure> {
    let (kinds, name): (&[RootKind], &str) = match text.split_once('/') {
        Some((kind, name)) => match kind.to_lowercase().as_str() {
            "pipelinerun" | "pipelineruns" | "pr" | "prs" => (&[RootKind::PipelineRun], name),
            "taskrun" | "taskruns" | "tr" | "trs" => (&[RootKind::TaskRun], name),
            _ => {
                return Err(
                    Failure::new(Exit::Refused, format!("{kind} is not a kind of run"))
                        .hint("write pipelinerun/NAME or taskrun/NAME"),
                );
            }
        },
        None => (&[RootKind::PipelineRun, RootKind::TaskRun], text),
    };
    for kind in kinds {
        let found = match kind {
            RootKind::PipelineRun => api::<PipelineRun>(connection)
                .get_metadata_opt(name)
                .await
                .map(|found| found.is_some()),
            RootKind::TaskRun => api::<TaskRun>(connection)
                .get_metadata_opt(name)
                .await
                .map(|found| found.is_some()),
        };
        match found {
            Ok(true) => {
                return Ok(Root {
                    kind: *kind,
                    name: name.to_owned(),
                });
            }
            Ok(false) => {}
            Err(error) => return Err(api_failure("cannot look for the run", error)),
        }
    }
    Err(Failure::new(
        Exit::Failed,
        format!("no run {text} in namespace {}", connection.namespace),
    )
    .hint("`tektite list` shows the runs there are"))
}

/// The namespace's objects of a Tekton kind.
pub fn api<K>(connection: &Connection) -> Api<K>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
{
    Api::namespaced(connection.client.clone(), &connection.namespace)
}

/// One object as text.
pub fn print_one(object: &Value, format: Format) -> String {
    match format {
        Format::Json => serde_json::to_string_pretty(object).unwrap_or_default() + "\n",
        Format::Yaml => serde_yaml_ng::to_string(object).unwrap_or_default(),
    }
}

/// Objects as one `List`.
pub fn print_list(items: Vec<Value>, format: Format) -> String {
    print_one(
        &json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items}),
        format,
    )
}

/// A typed object as JSON.
pub fn to_value<T: serde::Serialize>(object: &T) -> Value {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    value
}
