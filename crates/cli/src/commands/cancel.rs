//! `tektite cancel RUN`.

use kube::api::{Patch, PatchParams};
use serde_json::json;
use tektite_api::v1::{PipelineRun, TaskRun};

use crate::arguments::Cancel;
use crate::connect::{Connection, api_failure, connect};
use crate::exit::{Exit, Outcome};
use crate::objects;
use crate::terminal::print;
use crate::view::{Root, RootKind};

/// Asks for the run to be cancelled; its controller does the rest.
pub async fn run(arguments: Cancel) -> Outcome {
    let connection = connect(&arguments.target).await?;
    let root = objects::find_run(&connection, &arguments.run).await?;
    cancel(&connection, &root)
        .await
        .map_err(|error| api_failure("cannot cancel the run", error))?;
    print(&format!(
        "{} {} is being cancelled\n",
        root.kind.as_str(),
        root.name
    ));
    Ok(Exit::Success)
}

/// Sets `spec.status` so that the run and all it has started end.
pub async fn cancel(connection: &Connection, root: &Root) -> Result<(), kube::Error> {
    let parameters = PatchParams::default();
    match root.kind {
        RootKind::PipelineRun => {
            let patch = Patch::Merge(json!({"spec": {"status": "Cancelled"}}));
            objects::api::<PipelineRun>(connection)
                .patch(&root.name, &parameters, &patch)
                .await
                .map(drop)
        }
        RootKind::TaskRun => {
            let patch = Patch::Merge(json!({"spec": {"status": "TaskRunCancelled"}}));
            objects::api::<TaskRun>(connection)
                .patch(&root.name, &parameters, &patch)
                .await
                .map(drop)
        }
    }
}
