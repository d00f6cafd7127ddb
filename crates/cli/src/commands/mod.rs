//! One module per command.

mod cancel;
mod controller;
mod crds;
mod describe;
mod down;
mod image;
mod lint;
mod list;
mod logs;
mod rerun;
mod run;
mod up;
mod webhook;

use std::future::Future;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::arguments::{Arguments, Command};
use crate::exit::{Exit, Failure, Outcome};
use crate::logging;

/// Does what the arguments say.
pub fn dispatch(arguments: Arguments) -> Outcome {
    // Nobody looks at what these do but their log.
    let quiet = match arguments.command {
        Command::Controller(_) | Command::Webhook(_) => logging::Quiet::Progress,
        Command::Up(_) => logging::Quiet::Warnings,
        _ => logging::Quiet::Silent,
    };
    logging::start(arguments.verbose, quiet);
    match arguments.command {
        Command::Run(arguments) => {
            let plan = run::plan(&arguments)?;
            on_few_threads(run::run(&arguments, plan))
        }
        Command::Lint(arguments) => lint::run(&arguments),
        Command::Crds(arguments) => crds::run(&arguments),
        Command::Controller(arguments) => on_few_threads(controller::run(*arguments)),
        Command::Webhook(arguments) => on_few_threads(webhook::run(arguments)),
        Command::List(arguments) => on_one_thread(list::run(arguments)),
        Command::Describe(arguments) => on_one_thread(describe::run(arguments)),
        Command::Logs(arguments) => on_one_thread(logs::run(arguments)),
        Command::Cancel(arguments) => on_one_thread(cancel::run(arguments)),
        Command::Rerun(arguments) => on_one_thread(rerun::run(arguments)),
        Command::Up(arguments) if arguments.detach => up::detach(&arguments),
        Command::Up(arguments) => on_few_threads(up::run(&arguments)),
        Command::Down(arguments) => down::down(&arguments),
        Command::Status(arguments) => on_one_thread(down::status(arguments)),
        Command::Image(arguments) => image::run(&arguments),
    }
}

/// Clients need no more than one thread.
fn on_one_thread(work: impl Future<Output = Outcome>) -> Outcome {
    run_on(&mut tokio::runtime::Builder::new_current_thread(), work)
}

/// Controllers and clusters get two: more cost memory and start-up and gain little.
fn on_few_threads(work: impl Future<Output = Outcome>) -> Outcome {
    run_on(
        tokio::runtime::Builder::new_multi_thread().worker_threads(2),
        work,
    )
}

/// SIGINT and SIGTERM from when this is made on, none of them lost.
pub(crate) struct StopRequests {
    interrupt: Signal,
    terminate: Signal,
}

impl StopRequests {
    pub(crate) fn listen() -> Result<Self, Failure> {
        let failed = |error| Failure::new(Exit::Failed, format!("cannot hear of signals: {error}"));
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
        })
    }

    /// Resolves when one arrives that no earlier call resolved for.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Cancelled when the process is asked to stop.
pub(crate) fn stop_token() -> Result<CancellationToken, Failure> {
    let token = CancellationToken::new();
    let stop = token.clone();
    let mut requests = StopRequests::listen()?;
    tokio::spawn(async move {
        requests.next().await;
        stop.cancel();
    });
    Ok(token)
}

fn run_on(builder: &mut tokio::runtime::Builder, work: impl Future<Output = Outcome>) -> Outcome {
    match builder.enable_all().build() {
        Ok(runtime) => runtime.block_on(work),
        Err(error) => Err(Failure::new(Exit::Failed, format!("cannot start: {error}"))),
    }
}
