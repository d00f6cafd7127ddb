//! `tektite down` and `tektite status`: the local cluster's process.

use std::time::Duration;

use kube::api::{Api, ListParams};
use tektite_api::v1::{Condition, PipelineRun, TaskRun};

use crate::arguments::{Down, Status, Target};
use crate::connect::{Connection, connect};
use crate::data_dir;
use crate::exit::{Exit, Failure, Outcome};
use crate::terminal::{print, table};
use crate::up_record::UpRecord;

/// How long a cluster may take to stop its containers.
const PATIENCE: Duration = Duration::from_secs(60);

/// Stops the cluster; one that does not run is no failure.
pub fn down(arguments: &Down) -> Outcome {
    let directory = data_dir::of(&arguments.data_dir);
    let Some(record) = UpRecord::read(&directory) else {
        print(&format!(
            "no cluster is running in {}\n",
            directory.display()
        ));
        return Ok(Exit::Success);
    };
    match record.stop(PATIENCE) {
        Ok(true) => {
            print("stopped\n");
            Ok(Exit::Success)
        }
        Ok(false) => Err(Failure::new(
            Exit::Failed,
            format!("process {} does not stop", record.pid),
        )
        .hint(format!(
            "kill -9 {} ends it; its objects are safe",
            record.pid
        ))),
        Err(error) => Err(Failure::new(
            Exit::Failed,
            format!("cannot stop process {}: {error}", record.pid),
        )
        .hint("is it another user's cluster?")),
    }
}

/// Exit 0 if the cluster runs, 1 if it does not.
pub async fn status(arguments: Status) -> Outcome {
    let directory = data_dir::of(&arguments.data_dir);
    let Some(record) = UpRecord::read(&directory) else {
        print(&format!("not running ({})\n", directory.display()));
        return Ok(Exit::Failed);
    };
    let kubeconfig = directory.join("kubeconfig");
    let mut rows = vec![
        ("status", format!("running, process {}", record.pid)),
        ("server", record.server.clone()),
        ("kubeconfig", kubeconfig.display().to_string()),
    ];
    if let Some(resident) = record.resident() {
        rows.push((
            "memory",
            format!("{:.1} MiB resident", resident as f64 / 1_048_576.0),
        ));
    }
    let target = Target {
        kubeconfig: Some(kubeconfig),
        ..Target::default()
    };
    match counts(&connect(&target).await?).await {
        Ok((running, succeeded, failed)) => {
            rows.push((
                "runs",
                format!("{running} running, {succeeded} succeeded, {failed} failed"),
            ));
        }
        Err(error) => rows.push(("runs", format!("the API does not answer: {error}"))),
    }
    let rows: Vec<Vec<String>> = rows
        .into_iter()
        .map(|(name, value)| vec![name.to_owned(), value])
        .collect();
    print(&table::render(&rows, 0));
    Ok(Exit::Success)
}

async fn counts(connection: &Connection) -> Result<(usize, usize, usize), kube::Error> {
    let client = || connection.client.clone();
    let everything = ListParams::default();
    let pipeline_runs = Api::<PipelineRun>::all(client()).list(&everything).await?;
    let selector =
        ListParams::default().labels(&format!("!{}", tektite_api::names::label::PIPELINE_RUN));
    let task_runs = Api::<TaskRun>::all(client()).list(&selector).await?;
    let states = pipeline_runs.items.iter().map(|run| &run.status.conditions);
    let states = states.chain(task_runs.items.iter().map(|run| &run.status.conditions));
    Ok(states.fold(
        (0, 0, 0),
        |(running, succeeded, failed), conditions| match Condition::succeeded(conditions)
            .map(|condition| condition.status.as_str())
        {
            Some("True") => (running, succeeded + 1, failed),
            Some("False") => (running, succeeded, failed + 1),
            _ => (running + 1, succeeded, failed),
        },
    ))
}
