//! Where metrics are served, as ConfigMap `config-observability` has it at start (P-391).

use std::sync::Arc;

use tektite_api::config;
use tokio_util::sync::CancellationToken;

use super::metrics_router;
use crate::serving;
use crate::world::World;

/// Prometheus' port where nothing names another.
const PORT: u16 = 9090;

/// An address to serve metrics on that wins over `metrics-endpoint`; of what is left out, that is used, or 9090 of all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetricsAddress {
    /// Host name or address.
    pub host: Option<String>,
    /// Port.
    pub port: Option<u16>,
}

impl MetricsAddress {
    /// Host and port to serve on; none if metrics are not wanted.
    fn resolve(&self, config: &config::Metrics) -> Result<Option<(String, u16)>, String> {
        match config.protocol.as_str() {
            "prometheus" => {}
            "none" => return Ok(None),
            "grpc" | "http/protobuf" => {
                return Err(format!(
                    "metrics are not sent by {}: `metrics-protocol: prometheus` serves them",
                    config.protocol
                ));
            }
            other => return Err(format!("unsupported protocol {other:?}")),
        }
        let (host, port) = match config.endpoint.as_str() {
            "" => ("", PORT),
            endpoint => endpoint
                .rsplit_once(':')
                .and_then(|(host, port)| Some((host, port.parse().ok()?)))
                .ok_or_else(|| format!("metrics-endpoint {endpoint:?} should be \"host:port\""))?,
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Ok(Some((
            self.host.clone().unwrap_or_else(|| host.to_owned()),
            self.port.unwrap_or(port),
        )))
    }
}

/// Serves metrics until `stop`, if they are wanted. What keeps them from being served keeps nothing else.
pub(crate) async fn serve(world: Arc<World>, chosen: MetricsAddress, stop: CancellationToken) {
    let config = world.options.config.current();
    let (host, port) = match chosen.resolve(&config.metrics) {
        Ok(Some(address)) => address,
        Ok(None) => return,
        Err(error) => {
            tracing::warn!(%error, "no metrics are served");
            return;
        }
    };
    let served = match serving::listen(&host, port).await {
        Ok(listener) => {
            if let Ok(address) = listener.local_addr() {
                tracing::info!(%address, "serving metrics");
            }
            serving::serve(
                listener,
                metrics_router(world.options.metrics.clone()),
                stop,
            )
            .await
        }
        Err(error) => Err(error),
    };
    if let Err(error) = served {
        tracing::warn!(port, %error, "cannot serve metrics");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// P-391
    #[test]
    fn metrics_are_served_for_prometheus_on_9090_unless_told_otherwise_and_for_nothing_else() {
        let none = MetricsAddress::default();
        let chosen = MetricsAddress {
            host: Some("127.0.0.1".into()),
            port: Some(1),
        };
        for (protocol, endpoint, address, expected) in [
            ("prometheus", "", &none, Ok(Some(("", 9090)))),
            ("prometheus", ":9", &none, Ok(Some(("", 9)))),
            ("prometheus", "[::1]:9", &none, Ok(Some(("::1", 9)))),
            ("prometheus", "h:9", &chosen, Ok(Some(("127.0.0.1", 1)))),
            ("prometheus", "h", &none, Err(())),
            ("none", "", &chosen, Ok(None)),
            ("grpc", "h:9", &none, Err(())),
            ("http/protobuf", "h:9", &none, Err(())),
            ("other", "", &none, Err(())),
        ] {
            let data = [
                ("metrics-protocol", protocol),
                ("metrics-endpoint", endpoint),
            ];
            let data = data.map(|(key, value)| (key.to_owned(), value.to_owned()));
            let config = config::Metrics::from_data(&data.into());
            let resolved = address.resolve(&config).map_err(drop);
            let expected = expected.map(|some| some.map(|(host, port)| (host.to_owned(), port)));
            assert_eq!(resolved, expected, "{protocol} {endpoint}");
        }
        let silent = config::Metrics::from_data(&Default::default());
        assert_eq!(none.resolve(&silent), Ok(None));
    }
}
