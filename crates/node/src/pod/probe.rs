//! Probes of running containers: startup, readiness, liveness (K-293).

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::worker::{Event, Sender};
use crate::launcher::protocol::ExecRequest;
use crate::shared::{Shared, container_id};

/// What a probe found that matters to the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Started,
    Ready(bool),
    /// To be killed, with the message of the event.
    Dead(String),
}

/// The probes of one instance; they end when it is dropped.
pub(crate) struct Handle {
    pub has_startup: bool,
    pub has_readiness: bool,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Startup,
    Readiness,
    Liveness,
}

/// Consecutive results of a probe against its thresholds. Pure.
#[derive(Clone, Debug)]
struct Count {
    success: u32,
    failure: u32,
    successes: u32,
    failures: u32,
    /// The last threshold reached.
    settled: Option<bool>,
}

impl Count {
    fn new(probe: &Probe) -> Self {
        let number = |value: Option<i32>, default: u32| {
            value
                .and_then(|value| u32::try_from(value).ok())
                .filter(|value| *value > 0)
                .unwrap_or(default)
        };
        Self {
            success: number(probe.success_threshold, 1),
            failure: number(probe.failure_threshold, 3),
            successes: 0,
            failures: 0,
            settled: None,
        }
    }

    /// Counts a result; answers with the state if it has just changed.
    fn note(&mut self, fine: bool) -> Option<bool> {
        if fine {
            (self.successes, self.failures) = (self.successes + 1, 0);
        } else {
            (self.successes, self.failures) = (0, self.failures + 1);
        }
        let reached = if fine {
            self.successes >= self.success
        } else {
            self.failures >= self.failure
        };
        if !reached || self.settled == Some(fine) {
            return None;
        }
        self.settled = Some(fine);
        Some(fine)
    }
}

/// Starts the probes of a container, if it has any.
pub(crate) fn start(
    shared: &Arc<Shared>,
    uid: &str,
    container: &Container,
    attempt: u32,
    address: &str,
    sender: &Sender,
) -> Option<Handle> {
    let probes = [
        (Kind::Startup, &container.startup_probe),
        (Kind::Readiness, &container.readiness_probe),
        (Kind::Liveness, &container.liveness_probe),
    ];
    let gate = watch::Sender::new(container.startup_probe.is_none());
    let target = Target {
        shared: shared.clone(),
        id: container_id(uid, &container.name, attempt),
        uid: uid.to_string(),
        container: container.clone(),
        attempt,
        address: address.to_string(),
        sender: sender.clone(),
    };
    let tasks: Vec<_> = probes
        .into_iter()
        .filter_map(|(kind, probe)| {
            probe
                .clone()
                .map(|probe| tokio::spawn(run(kind, probe, target.clone(), gate.clone())))
        })
        .collect();
    (!tasks.is_empty()).then_some(Handle {
        has_startup: container.startup_probe.is_some(),
        has_readiness: container.readiness_probe.is_some(),
        tasks,
    })
}

#[derive(Clone)]
struct Target {
    shared: Arc<Shared>,
    id: String,
    uid: String,
    container: Container,
    attempt: u32,
    address: String,
    sender: Sender,
}

fn seconds(value: Option<i32>, default: u64) -> Duration {
    Duration::from_secs(
        value
            .and_then(|value| u64::try_from(value).ok())
            .unwrap_or(default),
    )
}

async fn run(kind: Kind, probe: Probe, target: Target, gate: watch::Sender<bool>) {
    if kind != Kind::Startup {
        let mut open = gate.subscribe();
        if open.wait_for(|open| *open).await.is_err() {
            return;
        }
    }
    tokio::time::sleep(seconds(probe.initial_delay_seconds, 0)).await;
    let period = seconds(probe.period_seconds, 10).max(Duration::from_secs(1));
    let timeout = seconds(probe.timeout_seconds, 1).max(Duration::from_secs(1));
    let mut count = Count::new(&probe);
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let result = tokio::time::timeout(timeout, target.check(&probe, timeout)).await;
        let result =
            result.unwrap_or_else(|_| Err(format!("probe timed out after {}s", timeout.as_secs())));
        let Some(fine) = count.note(result.is_ok()) else {
            continue;
        };
        let verdict = match (kind, fine, result) {
            (Kind::Startup, true, _) => {
                gate.send_replace(true);
                target.tell(Verdict::Started);
                return;
            }
            (Kind::Readiness, fine, _) => Verdict::Ready(fine),
            (Kind::Liveness, true, _) => continue,
            (Kind::Startup, false, result) => Verdict::Dead(format!(
                "Startup probe failed: {}",
                result.err().unwrap_or_default()
            )),
            (Kind::Liveness, false, result) => Verdict::Dead(format!(
                "Liveness probe failed: {}",
                result.err().unwrap_or_default()
            )),
        };
        target.tell(verdict);
    }
}

impl Target {
    fn tell(&self, verdict: Verdict) {
        let _ = self.sender.send(Event::Probed {
            container: self.container.name.clone(),
            attempt: self.attempt,
            verdict,
        });
    }

    /// One try; `Err` says what is wrong.
    async fn check(&self, probe: &Probe, timeout: Duration) -> Result<(), String> {
        if let Some(exec) = &probe.exec {
            return self
                .exec(exec.command.clone().unwrap_or_default(), timeout)
                .await;
        }
        if let Some(http) = &probe.http_get {
            return self.http(http).await;
        }
        if let Some(tcp) = &probe.tcp_socket {
            let host = tcp
                .host
                .clone()
                .filter(|host| !host.is_empty())
                .unwrap_or_else(|| self.address.clone());
            let port = self.port(&tcp.port)?;
            return TcpStream::connect((host.as_str(), port))
                .await
                .map(drop)
                .map_err(|error| format!("dial tcp {host}:{port}: {error}"));
        }
        Err("this kind of probe is not supported by this node".to_string())
    }

    async fn exec(&self, command: Vec<String>, timeout: Duration) -> Result<(), String> {
        let output = self
            .shared
            .layout
            .instance(&self.uid, &self.container.name, self.attempt)
            .root()
            .join("probe");
        let _ = std::fs::remove_file(&output);
        let request = ExecRequest {
            container: self.id.clone(),
            command,
            output: output.clone(),
            timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(1000),
        };
        match self.shared.launcher().exec(request).await {
            Ok(Some(0)) => Ok(()),
            Ok(Some(_)) => Err(std::fs::read_to_string(&output)
                .unwrap_or_default()
                .chars()
                .take(1024)
                .collect()),
            Ok(None) => Err(format!("command timed out after {}s", timeout.as_secs())),
            Err(failure) => Err(failure.message),
        }
    }

    async fn http(&self, action: &HTTPGetAction) -> Result<(), String> {
        let host = action
            .host
            .clone()
            .filter(|host| !host.is_empty())
            .unwrap_or_else(|| self.address.clone());
        let port = self.port(&action.port)?;
        if action.scheme.as_deref() == Some("HTTPS") {
            // Without a certificate check all that is learnt is that something answers there.
            return TcpStream::connect((host.as_str(), port))
                .await
                .map(drop)
                .map_err(|error| error.to_string());
        }
        let path = action
            .path
            .as_deref()
            .filter(|path| !path.is_empty())
            .unwrap_or("/");
        let mut request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUser-Agent: kube-probe/1.36\r\nAccept: */*\r\nConnection: close\r\n"
        );
        for header in action.http_headers.iter().flatten() {
            if !header.name.contains(['\r', '\n']) && !header.value.contains(['\r', '\n']) {
                request.push_str(&format!("{}: {}\r\n", header.name, header.value));
            }
        }
        request.push_str("\r\n");
        let failed = |error: std::io::Error| format!("Get \"http://{host}:{port}{path}\": {error}");
        let mut stream = TcpStream::connect((host.as_str(), port))
            .await
            .map_err(failed)?;
        stream.write_all(request.as_bytes()).await.map_err(failed)?;
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.map_err(failed)?;
        match status_code(&head) {
            Some(code) if (200..400).contains(&code) => Ok(()),
            Some(code) => Err(format!("HTTP probe failed with statuscode: {code}")),
            None => Err("malformed HTTP response".to_string()),
        }
    }

    fn port(&self, port: &IntOrString) -> Result<u16, String> {
        let found = match port {
            IntOrString::Int(number) => u16::try_from(*number).ok(),
            IntOrString::String(name) => match name.parse() {
                Ok(number) => Some(number),
                Err(_) => self
                    .container
                    .ports
                    .iter()
                    .flatten()
                    .find(|port| port.name.as_deref() == Some(name))
                    .and_then(|port| u16::try_from(port.container_port).ok()),
            },
        };
        found.ok_or_else(|| format!("no port {port:?}"))
    }
}

/// The status of a response from its first twelve bytes.
fn status_code(head: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(head).ok()?;
    text.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    // K-293
    #[test]
    fn a_probe_settles_only_at_its_thresholds() {
        let probe = Probe {
            success_threshold: Some(2),
            failure_threshold: Some(3),
            ..Probe::default()
        };
        let mut count = Count::new(&probe);
        let results = [
            true, false, true, true, true, false, false, true, false, false, false, false,
        ];
        let told: Vec<Option<bool>> = results.iter().map(|result| count.note(*result)).collect();
        let mut expected = vec![None; 12];
        expected[3] = Some(true);
        expected[10] = Some(false);
        assert_eq!(told, expected);
        let mut defaults = Count::new(&Probe::default());
        assert_eq!(
            [
                defaults.note(false),
                defaults.note(false),
                defaults.note(false)
            ],
            [None, None, Some(false)]
        );
    }

    #[test]
    fn the_status_of_an_answer_is_read_from_its_first_line() {
        for (text, expected) in [
            ("HTTP/1.1 200", Some(200)),
            ("HTTP/1.0 503", Some(503)),
            ("SSH-2.0-Open", None),
        ] {
            assert_eq!(status_code(text.as_bytes()), expected);
        }
    }
}
