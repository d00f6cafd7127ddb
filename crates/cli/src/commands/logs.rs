//! `tektite logs RUN [-f]`.

use crate::arguments::Logs;
use crate::connect::connect;
use crate::exit::{Exit, Outcome};
use crate::follow::Follower;
use crate::objects;
use crate::report::{Destination, Report};

/// Prints what the run's steps have written; with `-f` until it has ended.
pub async fn run(arguments: Logs) -> Outcome {
    let connection = connect(&arguments.target).await?;
    let root = objects::find_run(&connection, &arguments.run).await?;
    let roots = vec![root];
    let mut follower = Follower::start(connection, &roots, arguments.follow);
    let mut report = Report::new(roots, Destination::Stdout, false);
    if arguments.follow {
        tokio::select! {
            () = report.until_done(&mut follower) => {}
            _ = tokio::signal::ctrl_c() => return Ok(Exit::Interrupted),
        }
    } else {
        report.until_read(&mut follower).await;
    }
    Ok(Exit::Success)
}
