//! `tektite describe RUN`: one run with its params, tasks, steps and results.

use std::fmt::Write as _;
use std::time::Duration;

use kube::api::ListParams;
use tektite_api::names::label;
use tektite_api::v1::{Param, PipelineRun, TaskRun, WorkspaceBinding};

use crate::arguments::Describe;
use crate::connect::{Connection, api_failure, connect};
use crate::exit::{Exit, Failure, Outcome};
use crate::objects;
use crate::terminal::style::{Style, duration};
use crate::terminal::summary::{self, LastLines};
use crate::terminal::{Terminal, print, table};
use crate::view::{Board, Root, RootKind};

/// Prints the run for people, or the object.
pub async fn run(arguments: Describe) -> Outcome {
    let connection = connect(&arguments.target).await?;
    let root = objects::find_run(&connection, &arguments.run).await?;
    let mut board = Board::new(vec![root.clone()]);
    let (object, params, workspaces) = gather(&connection, &root, &mut board).await?;
    if let Some(format) = arguments.output {
        print(&objects::print_one(&object, format));
        return Ok(Exit::Success);
    }
    let style = Style {
        fancy: Terminal::stdout().colours,
    };
    let mut out = String::new();
    let rows = |title: &str, rows: Vec<Vec<String>>| match rows.is_empty() {
        true => String::new(),
        false => format!("\n{}\n{}", style.bold(title), table::render(&rows, 2)),
    };
    let heading = vec![
        vec!["Name".to_owned(), root.name.clone()],
        vec!["Namespace".to_owned(), connection.namespace.clone()],
        vec!["Kind".to_owned(), root.kind.as_str().to_owned()],
    ];
    out.push_str(&table::render(&heading, 0));
    out.push_str(&rows(
        "Params",
        params
            .iter()
            .map(|p| vec![p.name.clone(), p.value.texts().join(", ")])
            .collect(),
    ));
    out.push_str(&rows(
        "Workspaces",
        workspaces
            .iter()
            .map(|w| vec![w.name.clone(), source(w)])
            .collect(),
    ));
    let views = board.views(Duration::ZERO);
    out.push_str(&summary::render(&views, &LastLines::new(), style));
    for task in views
        .iter()
        .flat_map(|view| &view.tasks)
        .filter(|task| !task.steps.is_empty())
    {
        let _ = write!(
            out,
            "\n{} {}",
            style.bold("Steps of"),
            style.bold(&task.label)
        );
        let _ = writeln!(
            out,
            "{}",
            task.elapsed
                .map(|d| format!(" ({})", duration(d)))
                .unwrap_or_default()
        );
        let steps = task.steps.iter().map(|step| {
            let code = step
                .exit_code
                .map(|code| format!("exit code {code}"))
                .unwrap_or_default();
            vec![
                step.name.clone(),
                style.state(step.state, step.state.word()),
                code,
                step.reason.clone(),
            ]
        });
        out.push_str(&table::render(&steps.collect::<Vec<_>>(), 2));
    }
    print(&out);
    Ok(Exit::Success)
}

type Gathered = (serde_json::Value, Vec<Param>, Vec<WorkspaceBinding>);

async fn gather(
    connection: &Connection,
    root: &Root,
    board: &mut Board,
) -> Result<Gathered, Failure> {
    let failed = |error| api_failure("cannot read the run", error);
    match root.kind {
        RootKind::PipelineRun => {
            let run = objects::api::<PipelineRun>(connection)
                .get(&root.name)
                .await
                .map_err(failed)?;
            let selector =
                ListParams::default().labels(&format!("{}={}", label::PIPELINE_RUN, root.name));
            for task in objects::api::<TaskRun>(connection)
                .list(&selector)
                .await
                .map_err(failed)?
            {
                board.see_task_run(task, Duration::ZERO);
            }
            let gathered = (
                objects::to_value(&run),
                run.spec.params.clone(),
                run.spec.workspaces.clone(),
            );
            board.see_pipeline_run(run, Duration::ZERO);
            Ok(gathered)
        }
        RootKind::TaskRun => {
            let run = objects::api::<TaskRun>(connection)
                .get(&root.name)
                .await
                .map_err(failed)?;
            let gathered = (
                objects::to_value(&run),
                run.spec.params.clone(),
                run.spec.workspaces.clone(),
            );
            board.see_task_run(run, Duration::ZERO);
            Ok(gathered)
        }
    }
}

/// The kind of thing a workspace is bound to: the only field beside its name and subPath.
fn source(binding: &WorkspaceBinding) -> String {
    let value = serde_json::to_value(binding).unwrap_or_default();
    let fields = value.as_object().into_iter().flatten();
    let source = fields
        .filter(|(key, _)| *key != "name" && *key != "subPath")
        .map(|(key, _)| key.clone());
    source.collect::<Vec<_>>().join(", ")
}
