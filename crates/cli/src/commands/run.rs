//! `tektite run`: what manifests hold, from nothing to the end.

use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, ListParams, PostParams};
use serde_json::{Value, json};
use tektite_api::names::label;
use tektite_api::v1::{PipelineRun, TaskRun};

use super::StopRequests;
use super::cancel::cancel;
use crate::apply;
use crate::arguments;
use crate::connect::{Connection, api_failure, connect};
use crate::diagnostic;
use crate::exit::{Exit, Failure, Outcome};
use crate::follow::Follower;
use crate::lint::{self, Strictness};
use crate::local::{Local, PrivateOptions};
use crate::manifest::{self, Document};
use crate::objects;
use crate::report::{Destination, Report};
use crate::start::{self, Start};
use crate::terminal::{Terminal, print, print_error};
use crate::view::{Root, RootKind, State};
use crate::warnings::Warnings;

/// How long runs may take to end after an interrupt.
const CANCEL_PATIENCE: Duration = Duration::from_secs(15);

/// What is to be done, checked.
pub struct Plan {
    documents: Vec<Document>,
    start: Option<Start>,
    image_maps: Vec<std::path::PathBuf>,
    namespace: Option<String>,
}

/// Reads and checks the manifests: everything that exit code 2 stands for, before anything starts.
pub fn plan(arguments: &arguments::Run) -> Result<Plan, Failure> {
    let loaded = manifest::load(&arguments.manifests);
    let strictness = Strictness {
        lenient: arguments.lenient,
        external: arguments.target.is_given(),
    };
    let mut diagnostics = loaded.diagnostics;
    diagnostics.extend(lint::check(&loaded.documents, strictness));
    if lint::refused(&diagnostics) {
        return Err(Failure::refused(diagnostics));
    }
    let namespace = namespace(&loaded.documents)?;
    let start = start::start(&loaded.documents, arguments)?;
    print_error(&diagnostic::render(&diagnostics, Terminal::stderr().look()));
    let image_maps = arguments
        .images
        .iter()
        .cloned()
        .chain(loaded.image_maps)
        .collect();
    Ok(Plan {
        documents: loaded.documents,
        start,
        image_maps,
        namespace,
    })
}

/// The namespace that the runs name; they must agree.
fn namespace(documents: &[Document]) -> Result<Option<String>, Failure> {
    let mut runs = documents.iter().filter(|document| start::is_run(document));
    let first = runs.next().map(Document::namespace).unwrap_or_default();
    if let Some(other) = runs.find(|document| document.namespace() != first) {
        let diagnostic = other.error_at(
            "metadata.namespace",
            "these runs are in different namespaces",
        );
        return Err(Failure::refused(vec![
            diagnostic.hint("run the files of one namespace at a time"),
        ]));
    }
    Ok(Some(first.to_owned()).filter(|namespace| !namespace.is_empty()))
}

/// Runs the plan and follows it to the end.
pub async fn run(arguments: &arguments::Run, plan: Plan) -> Outcome {
    let mut stop = StopRequests::listen()?;
    if arguments.target.is_given() {
        let connected = async {
            let mut connection = connect(&arguments.target).await?;
            if let Some(namespace) = plan.namespace.clone() {
                connection.namespace = namespace;
            }
            apply::would_start(&connection, &plan.documents).await?;
            Ok::<_, Failure>(connection)
        };
        let connection = tokio::select! {
            connected = connected => connected?,
            () = stop.next() => return Ok(Exit::Interrupted),
        };
        return on_cluster(arguments, &plan, &connection, None, &mut stop).await;
    }
    let wanted = arguments
        .target
        .namespace
        .clone()
        .or(plan.namespace.clone());
    let namespace = wanted.unwrap_or_else(|| "default".to_owned());
    let options = PrivateOptions {
        namespace,
        image_maps: plan.image_maps.clone(),
    };
    let mut local = tokio::select! {
        local = Local::private(options) => local?,
        () = stop.next() => return Ok(Exit::Interrupted),
    };
    let connection = local.connection().clone();
    let warnings = local.take_warnings();
    let outcome = match namespaces(&connection, &plan.documents).await {
        Ok(()) => on_cluster(arguments, &plan, &connection, warnings, &mut stop).await,
        Err(failure) => Err(failure),
    };
    local.stop().await;
    outcome
}

/// A private cluster has the namespaces that manifests name without anybody creating them.
async fn namespaces(connection: &Connection, documents: &[Document]) -> Result<(), Failure> {
    let api: Api<Namespace> = Api::all(connection.client.clone());
    let mut names: Vec<&str> = documents
        .iter()
        .map(Document::namespace)
        .chain([connection.namespace.as_str()])
        .collect();
    names.retain(|name| {
        !["", "default", "kube-system", tektite_api::names::NAMESPACE].contains(name)
    });
    names.sort_unstable();
    names.dedup();
    let defined = |name: &str| {
        documents
            .iter()
            .any(|document| document.kind == "Namespace" && document.name() == name)
    };
    for name in names.into_iter().filter(|name| !defined(name)) {
        let namespace: Namespace =
            serde_json::from_value(json!({"metadata": {"name": name}})).unwrap_or_default();
        match api.create(&PostParams::default(), &namespace).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {}
            Err(error) => return Err(api_failure("cannot create the namespace", error)),
        }
    }
    Ok(())
}

async fn on_cluster(
    arguments: &arguments::Run,
    plan: &Plan,
    connection: &Connection,
    warnings: Option<Warnings>,
    stop: &mut StopRequests,
) -> Outcome {
    let roots = tokio::select! {
        roots = begin(plan, connection) => roots?,
        () = stop.next() => return Ok(Exit::Interrupted),
    };
    let mut follower = Follower::start(connection.clone(), &roots, true);
    let destination = if arguments.output.is_some() {
        Destination::Stderr
    } else {
        Destination::Stdout
    };
    let mut report = Report::new(roots.clone(), destination, true).with_warnings(warnings);
    let interrupted = tokio::select! {
        () = report.until_done(&mut follower) => false,
        () = stop.next() => true,
    };
    if interrupted {
        report.say("interrupted: cancelling; once more to stop at once");
        for root in &roots {
            if let Err(error) = cancel(connection, root).await {
                report.say(&format!("cannot cancel {}: {error}", root.name));
            }
        }
        tokio::select! {
            _ = tokio::time::timeout(CANCEL_PATIENCE, report.until_done(&mut follower)) => {}
            () = stop.next() => {}
        }
    }
    report.finish();
    if let Some(format) = arguments.output {
        print(&objects::print_list(
            final_objects(connection, &roots).await?,
            format,
        ));
    }
    let failed = report
        .states()
        .iter()
        .any(|state| *state != State::Succeeded);
    Ok(match (interrupted, failed) {
        (true, _) => Exit::Interrupted,
        (false, true) => Exit::Failed,
        (false, false) => Exit::Success,
    })
}

/// Applies what the manifests hold and creates the runs.
async fn begin(plan: &Plan, connection: &Connection) -> Result<Vec<Root>, Failure> {
    apply::definitions(connection, &plan.documents).await?;
    let Some(start) = &plan.start else {
        return apply::runs(connection, &plan.documents).await;
    };
    for (claim, path) in &start.directories {
        apply::directory(connection, claim, path).await?;
    }
    Ok(vec![apply::create(connection, &start.run).await?])
}

/// The runs, each PipelineRun followed by its TaskRuns.
async fn final_objects(connection: &Connection, roots: &[Root]) -> Result<Vec<Value>, Failure> {
    let failed = |error| api_failure("cannot read the final objects", error);
    let mut objects = Vec::new();
    for root in roots {
        match root.kind {
            RootKind::TaskRun => {
                objects.push(objects::to_value(
                    &objects::api::<TaskRun>(connection)
                        .get(&root.name)
                        .await
                        .map_err(failed)?,
                ));
            }
            RootKind::PipelineRun => {
                let run = objects::api::<PipelineRun>(connection)
                    .get(&root.name)
                    .await
                    .map_err(failed)?;
                objects.push(objects::to_value(&run));
                let children =
                    ListParams::default().labels(&format!("{}={}", label::PIPELINE_RUN, root.name));
                let list = objects::api::<TaskRun>(connection)
                    .list(&children)
                    .await
                    .map_err(failed)?;
                objects.extend(list.items.iter().map(objects::to_value));
            }
        }
    }
    Ok(objects)
}
