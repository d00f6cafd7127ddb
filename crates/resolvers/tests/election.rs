//! Several processes with resolvers: each request is answered by the one that leads its bucket.

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use serde_json::json;
use support::Local;
use tektite_controller::{Election, LeaderElection};
use tektite_resolvers::{AddressPolicy, ResolverOptions, Resolvers, Share};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const NAMESPACE: &str = "tekton-pipelines-resolvers";

/// Which process has found which request to be its own.
type Answered = Arc<Mutex<Vec<(&'static str, String)>>>;

struct Process {
    stop: CancellationToken,
    elected: Election,
    resolvers: JoinHandle<()>,
}

impl Process {
    async fn start(local: &Local, name: &'static str, answered: &Answered) -> Self {
        let stop = local.shutdown.child_token();
        let election = LeaderElection {
            retry_period: Duration::from_millis(20),
            ..LeaderElection::new(name)
        };
        let queues = Resolvers::queues();
        let client = local.client.clone();
        let elected =
            Election::stand(client, "controller", &queues, NAMESPACE, &election, &stop).await;
        let (leads, answered) = (elected.leads(), Arc::clone(answered));
        let leads = move |queue: &str, request: &str| {
            let led = leads(queue, request);
            if led {
                answered.lock().unwrap().push((name, request.to_owned()));
            }
            led
        };
        let options = ResolverOptions {
            share: Some(Share {
                leads: Arc::new(leads),
                changes: elected.changes(),
            }),
            ..ResolverOptions::new(AddressPolicy::local())
        };
        let running = Resolvers::run(local.client.clone(), options, stop.clone());
        Self {
            stop,
            elected,
            resolvers: tokio::spawn(running),
        }
    }

    async fn end(self) {
        self.stop.cancel();
        self.resolvers.await.expect("no panic");
        self.elected.given_up().await;
    }
}

/// P-319, P-392
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_process_that_leads_answers_and_the_next_one_takes_over_what_it_left() {
    let local = Local::without_resolvers().await;
    let answered = Answered::default();
    let one = Process::start(&local, "one", &answered).await;
    let mut led = one.elected.changes();
    led.wait_for(|led| *led == 5).await.expect("it leads all");
    let other = Process::start(&local, "other", &answered).await;
    // Refused at once, for it has no URL: an answer, too.
    local.ask("first", "http", json!({})).await;
    local.ended("first").await;

    let leases: Api<Lease> = Api::namespaced(local.client.clone(), NAMESPACE);
    let leases = leases.list(&Default::default()).await.expect("leases");
    let mut names: Vec<String> = leases
        .items
        .into_iter()
        .filter_map(|lease| lease.metadata.name)
        .collect();
    names.sort();
    let of = |resolver: &str| format!("controller.tektonresolverframework.{resolver}.00-of-01");
    let resolvers = ["bundleresolver", "cluster", "git", "http", "hub"];
    assert_eq!(names, resolvers.map(of));

    // Nobody answers any more when the second request comes, and nobody tells of it again.
    one.end().await;
    local.ask("second", "http", json!({})).await;
    local.ended("second").await;
    let mut answered = answered.lock().unwrap().clone();
    answered.dedup();
    assert_eq!(
        answered,
        [
            ("one", "default/first".to_owned()),
            ("other", "default/second".to_owned())
        ]
    );
    other.end().await;
}
