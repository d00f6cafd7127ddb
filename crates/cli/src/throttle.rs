//! Not asking the API more than it was said to take: a bucket of requests for each of upstream's clients (T-420).

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::Request;
use tower::{Layer, Service};

use crate::arguments::Access;

/// Upstream's client asks that much where nothing else is said.
const DEFAULT: Limits = Limits {
    per_second: 5.0,
    burst: 10,
};

/// How many requests may be made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// In each second, in the long run; above zero.
    per_second: f64,
    /// At once, after a while without any.
    burst: u32,
}

impl Limits {
    /// Those of a process that makes `times` as many as one client may: upstream's controllers 2, its resolvers 5.
    ///
    /// # Errors
    /// The rate is not a number of requests.
    pub fn of(access: &Access, times: u32) -> Result<Self, String> {
        let qps = access.kube_api_qps;
        if !(0.0..=f64::from(f32::MAX)).contains(&qps) {
            return Err(format!("provided QPS value {qps} must be >0 and <3.4+e38"));
        }
        let per_second = match qps {
            0.0 => 2.0 * DEFAULT.per_second,
            qps => qps,
        };
        let burst = match access.kube_api_burst {
            0 => DEFAULT.burst,
            burst => burst,
        };
        Ok(Self {
            per_second: per_second * f64::from(times),
            burst: burst.saturating_mul(times),
        })
    }
}

/// Gives turns to requests in the order in which they come.
#[derive(Debug)]
struct Bucket {
    /// Between two requests when the bucket is empty.
    interval: Duration,
    /// What a full bucket is ahead of its time.
    ahead: Duration,
    /// When the bucket is full again.
    full: Option<Instant>,
}

impl Bucket {
    fn new(limits: Limits) -> Self {
        // A year is as good as never, and a time that can be reckoned with.
        let seconds = limits.per_second.recip().min(365.0 * 86_400.0);
        let interval = Duration::from_secs_f64(seconds);
        Self {
            interval,
            ahead: interval.saturating_mul(limits.burst.saturating_sub(1)),
            full: None,
        }
    }

    /// How long the request that comes at `now` has to wait.
    fn take(&mut self, now: Instant) -> Duration {
        let full = self.full.map_or(now, |full| full.max(now));
        self.full = full.checked_add(self.interval).or(Some(full));
        full.duration_since(now).saturating_sub(self.ahead)
    }
}

/// Holds requests back; one for the whole process.
#[derive(Clone, Debug)]
pub struct Throttle {
    /// Of Kubernetes' kinds, of Tekton's and of ResolutionRequests: upstream has a client for each.
    buckets: Arc<[Mutex<Bucket>; 3]>,
}

impl Throttle {
    /// Lets as much through as `limits` say.
    pub fn new(limits: Limits) -> Self {
        let bucket = || Mutex::new(Bucket::new(limits));
        Self {
            buckets: Arc::new([bucket(), bucket(), bucket()]),
        }
    }

    fn wait(&self, path: &str) -> Duration {
        let client = if path.starts_with("/apis/tekton.dev/") {
            1
        } else if path.starts_with("/apis/resolution.tekton.dev/") {
            2
        } else {
            0
        };
        let mut bucket = self.buckets[client]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        bucket.take(Instant::now())
    }
}

impl<S> Layer<S> for Throttle {
    type Service = Throttled<S>;

    fn layer(&self, inner: S) -> Throttled<S> {
        Throttled {
            inner,
            throttle: self.clone(),
        }
    }
}

/// A client that is held back.
#[derive(Debug)]
pub struct Throttled<S> {
    inner: S,
    throttle: Throttle,
}

impl<S, B> Service<Request<B>> for Throttled<S>
where
    S: Service<Request<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let wait = self.throttle.wait(request.uri().path());
        // Does nothing until it is polled.
        let answer = self.inner.call(request);
        Box::pin(async move {
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            answer.await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(kube_api_qps: f64, kube_api_burst: u32) -> Access {
        Access {
            kube_api_qps,
            kube_api_burst,
            ..Access::default()
        }
    }

    /// T-420, P-397
    #[test]
    fn limits_are_the_flags_doubled_and_five_times_those_for_resolvers() {
        for (qps, burst, times, expected) in [
            (0.0, 0, 2, (20.0, 20)),
            (2.5, 7, 2, (5.0, 14)),
            (0.0, 3, 5, (50.0, 15)),
            (1.0, 0, 5, (5.0, 50)),
        ] {
            let limits = Limits::of(&access(qps, burst), times).unwrap();
            assert_eq!((limits.per_second, limits.burst), expected);
        }
        for qps in [-1.0, f64::NAN, f64::INFINITY] {
            assert!(Limits::of(&access(qps, 0), 2).is_err(), "{qps}");
        }
    }

    /// T-420
    #[test]
    fn a_burst_goes_at_once_and_what_comes_then_waits_its_turn() {
        let mut bucket = Bucket::new(Limits {
            per_second: 10.0,
            burst: 3,
        });
        let start = Instant::now();
        let mut take = |millis| {
            bucket
                .take(start + Duration::from_millis(millis))
                .as_millis()
        };
        assert_eq!(
            [take(0), take(0), take(0), take(0), take(0)],
            [0, 0, 0, 100, 200]
        );
        // A tenth of a second later two are still before it.
        assert_eq!(take(100), 200);
        // After a long while the bucket is full, and not fuller.
        assert_eq!(
            [take(9000), take(9000), take(9000), take(9000)],
            [0, 0, 0, 100]
        );
    }

    #[test]
    fn the_slowest_and_the_fastest_of_rates_do_not_overflow() {
        for per_second in [f64::MIN_POSITIVE, f64::from(f32::MAX)] {
            let mut bucket = Bucket::new(Limits {
                per_second,
                burst: u32::MAX,
            });
            let now = Instant::now();
            for _ in 0..10 {
                assert_eq!(bucket.take(now), Duration::ZERO);
            }
        }
    }

    #[test]
    fn each_of_upstreams_clients_has_a_bucket_of_its_own() {
        let throttle = Throttle::new(Limits {
            per_second: 0.001,
            burst: 1,
        });
        for path in [
            "/apis/tekton.dev/v1/taskruns",
            "/apis/resolution.tekton.dev/v1beta1/resolutionrequests",
            "/api/v1/pods",
        ] {
            assert_eq!(throttle.wait(path), Duration::ZERO, "{path}");
            assert!(throttle.wait(path) > Duration::from_secs(900), "{path}");
        }
    }
}
