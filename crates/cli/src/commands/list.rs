//! `tektite list`: runs, tasks and pipelines.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, ListParams};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tektite_api::v1::{Condition, Pipeline, PipelineRun, Task, TaskRun};

use crate::arguments::{List, Listed};
use crate::connect::{Connection, api_failure, connect};
use crate::exit::{Exit, Failure, Outcome};
use crate::objects;
use crate::terminal::style::duration;
use crate::terminal::{print, table};

/// Prints a table, or the objects.
pub async fn run(arguments: List) -> Outcome {
    let connection = connect(&arguments.target).await?;
    let lister = Lister {
        connection,
        everywhere: arguments.all_namespaces,
    };
    let mut rows = Vec::new();
    let mut objects = Vec::new();
    let what = arguments.what;
    if matches!(what, Listed::Runs | Listed::Pipelineruns) {
        for run in lister.list::<PipelineRun>().await? {
            objects.push(objects::to_value(&run));
            let status = &run.status;
            rows.push(lister.run(
                "PipelineRun",
                &run.metadata,
                &status.conditions,
                &status.start_time,
                &status.completion_time,
            ));
        }
    }
    if matches!(what, Listed::Runs | Listed::Taskruns) {
        for run in lister.list::<TaskRun>().await? {
            let child = run
                .metadata
                .labels
                .as_ref()
                .is_some_and(|l| l.contains_key(tektite_api::names::label::PIPELINE_RUN));
            if child && what == Listed::Runs {
                continue;
            }
            objects.push(objects::to_value(&run));
            let status = &run.status;
            rows.push(lister.run(
                "TaskRun",
                &run.metadata,
                &status.conditions,
                &status.start_time,
                &status.completion_time,
            ));
        }
    }
    if what == Listed::Tasks {
        for task in lister.list::<Task>().await? {
            rows.push(lister.definition("Task", &task.metadata, &task.spec.description));
            objects.push(objects::to_value(&task));
        }
    }
    if what == Listed::Pipelines {
        for pipeline in lister.list::<Pipeline>().await? {
            rows.push(lister.definition(
                "Pipeline",
                &pipeline.metadata,
                &pipeline.spec.description,
            ));
            objects.push(objects::to_value(&pipeline));
        }
    }
    match arguments.output {
        Some(format) => print(&objects::print_list(objects, format)),
        None if rows.is_empty() => print("nothing found\n"),
        None => {
            rows.sort_by_key(|row| std::cmp::Reverse(row.1));
            let mut lines = vec![lister.header(what)];
            lines.extend(rows.into_iter().map(|(cells, _)| cells));
            print(&table::render(&lines, 0));
        }
    }
    Ok(Exit::Success)
}

type Row = (Vec<String>, Option<jiff::Timestamp>);

struct Lister {
    connection: Connection,
    everywhere: bool,
}

impl Lister {
    async fn list<K>(&self) -> Result<Vec<K>, Failure>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + Serialize
            + std::fmt::Debug,
    {
        let client = self.connection.client.clone();
        let api: Api<K> = if self.everywhere {
            Api::all(client)
        } else {
            Api::namespaced(client, &self.connection.namespace)
        };
        let list = api
            .list(&ListParams::default())
            .await
            .map_err(|error| api_failure("cannot list", error))?;
        Ok(list.items)
    }

    fn header(&self, what: Listed) -> Vec<String> {
        let columns: &[&str] = match what {
            Listed::Tasks | Listed::Pipelines => &["KIND", "NAME", "CREATED", "DESCRIPTION"],
            _ => &["KIND", "NAME", "STATUS", "STARTED", "DURATION"],
        };
        let namespace = self.everywhere.then_some("NAMESPACE");
        namespace
            .into_iter()
            .chain(columns.iter().copied())
            .map(str::to_owned)
            .collect()
    }

    fn row(&self, metadata: &ObjectMeta, cells: Vec<String>) -> Row {
        let namespace = self
            .everywhere
            .then(|| metadata.namespace.clone().unwrap_or_default());
        let created = metadata.creation_timestamp.as_ref().map(|time| time.0);
        (namespace.into_iter().chain(cells).collect(), created)
    }

    fn run(
        &self,
        kind: &str,
        metadata: &ObjectMeta,
        conditions: &[Condition],
        start: &Option<Time>,
        completion: &Option<Time>,
    ) -> Row {
        let now = jiff::Timestamp::now();
        let since = |time: &Time| duration(now.duration_since(time.0).unsigned_abs());
        let took = start.as_ref().map(|start| {
            let end = completion.as_ref().map_or(now, |time| time.0);
            duration(end.duration_since(start.0).unsigned_abs())
        });
        let condition = Condition::succeeded(conditions);
        let cells = vec![
            kind.to_owned(),
            metadata.name.clone().unwrap_or_default(),
            condition.map_or_else(
                || "Pending".to_owned(),
                |condition| condition.reason.clone(),
            ),
            start
                .as_ref()
                .map_or_else(|| "-".to_owned(), |time| format!("{} ago", since(time))),
            took.unwrap_or_else(|| "-".to_owned()),
        ];
        self.row(metadata, cells)
    }

    fn definition(&self, kind: &str, metadata: &ObjectMeta, description: &str) -> Row {
        let age = metadata.creation_timestamp.as_ref().map(|time| {
            format!(
                "{} ago",
                duration(jiff::Timestamp::now().duration_since(time.0).unsigned_abs())
            )
        });
        let first_line = description.lines().next().unwrap_or_default().to_owned();
        let name = metadata.name.clone().unwrap_or_default();
        self.row(
            metadata,
            vec![kind.to_owned(), name, age.unwrap_or_default(), first_line],
        )
    }
}
