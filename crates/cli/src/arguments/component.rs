//! The arguments of what upstream has programs of its own for: the same flags and environment variables (T-418 to T-422).

use std::ffi::{OsStr, OsString};
use std::num::NonZeroUsize;

use clap::{Args, CommandFactory as _};
use tektite_api::Duration;

use super::{Arguments, Target};

/// `tektite controller`.
#[derive(Debug, Args)]
pub struct Controller {
    /// Which cluster; without a namespace, all of them.
    #[command(flatten)]
    pub target: Target,
    /// How to reach it.
    #[command(flatten)]
    pub access: Access,
    /// What pods run beside the steps' own images.
    #[command(flatten)]
    pub images: Images,
    /// Who acts if there are several.
    #[command(flatten)]
    pub sharing: Sharing,
    /// Who looks after the process.
    #[command(flatten)]
    pub probes: Probes,
    /// Do not answer ResolutionRequests: leave them to other resolvers
    #[arg(long)]
    pub no_resolvers: bool,
    /// How many runs of each kind to work on at once [default: 32 of all kinds]
    #[arg(long, env = "THREADS_PER_CONTROLLER", value_name = "NUMBER")]
    pub threads_per_controller: Option<NonZeroUsize>,
    /// How often to look at every run without cause; 0s for never
    #[arg(long, value_name = "DURATION", default_value = "10h")]
    pub resync_period: Duration,
    /// Address to serve metrics on [default: `metrics-endpoint` of ConfigMap config-observability]
    #[arg(long, env = "METRICS_PROMETHEUS_HOST", value_name = "HOST")]
    pub metrics_host: Option<String>,
    /// Port to serve metrics on [default: `metrics-endpoint` of ConfigMap config-observability, or 9090]
    #[arg(long, env = "METRICS_PROMETHEUS_PORT", value_name = "PORT")]
    pub metrics_port: Option<u16>,
}

/// `tektite webhook`.
#[derive(Debug, Args)]
pub struct Webhook {
    /// Which cluster.
    #[command(flatten)]
    pub target: Target,
    /// How to reach it.
    #[command(flatten)]
    pub access: Access,
    /// Who looks after the process.
    #[command(flatten)]
    pub probes: Probes,
    /// Port to answer the API server on, to which the Service leads; 0 for any that is free
    #[arg(
        long,
        env = "WEBHOOK_PORT",
        value_name = "PORT",
        default_value_t = 8443
    )]
    pub port: u16,
    /// Service by which the API server reaches the webhooks
    #[arg(
        long,
        env = "WEBHOOK_SERVICE_NAME",
        value_name = "NAME",
        default_value = tektite_api::names::WEBHOOK_SERVICE
    )]
    pub service: String,
    /// Secret that holds the certificates
    #[arg(
        long,
        env = "WEBHOOK_SECRET_NAME",
        value_name = "NAME",
        default_value = "webhook-certs"
    )]
    pub secret: String,
    /// Name of the webhook that sets defaults; the others' are made of it
    #[arg(
        long,
        env = "WEBHOOK_ADMISSION_CONTROLLER_NAME",
        value_name = "NAME",
        default_value = "webhook.pipeline.tekton.dev"
    )]
    pub admission: String,
}

/// How a component reaches the API.
#[derive(Debug, Clone, Default, Args)]
pub struct Access {
    /// Cluster within the kubeconfig [default: the context's]
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// Address of the API server, instead of the kubeconfig's
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// Requests to the API in a second, of which twice as many are made; 0 stands for 5, doubled once more
    #[arg(
        long,
        env = "KUBE_API_QPS",
        value_name = "NUMBER",
        default_value_t = 0.0
    )]
    pub kube_api_qps: f64,
    /// Requests to the API without waiting, of which twice as many are made; 0 stands for 10
    #[arg(
        long,
        env = "KUBE_API_BURST",
        value_name = "NUMBER",
        default_value_t = 0
    )]
    pub kube_api_burst: u32,
    /// Namespace of the installation, with its ConfigMaps
    #[arg(
        long,
        env = "SYSTEM_NAMESPACE",
        value_name = "NAME",
        default_value = tektite_api::names::NAMESPACE
    )]
    pub system_namespace: String,
}

/// What pods run beside the steps' own images.
#[derive(Debug, Args)]
pub struct Images {
    /// Image with the entrypoint binary, for clusters whose nodes do not have it
    #[arg(long, value_name = "IMAGE", default_value = "tektite/entrypoint")]
    pub entrypoint_image: String,
    /// Image that ends at once, for sidecars that are to stop [default: the entrypoint's]
    #[arg(long, value_name = "IMAGE")]
    pub nop_image: Option<String>,
    /// Image of the sidecar that reads results [default: the entrypoint's]
    #[arg(long, value_name = "IMAGE")]
    pub sidecarlogresults_image: Option<String>,
    /// Not used: scripts are written by the entrypoint
    #[arg(long, value_name = "IMAGE")]
    pub shell_image: Option<String>,
    /// Not used: there are no Windows pods
    #[arg(long, value_name = "IMAGE")]
    pub shell_image_win: Option<String>,
    /// Not used: working directories are made by the entrypoint
    #[arg(long, value_name = "IMAGE")]
    pub workingdirinit_image: Option<String>,
}

impl Images {
    /// The flags that were given and change nothing.
    pub fn unused(&self) -> Vec<&'static str> {
        let flags = [
            ("--shell-image", &self.shell_image),
            ("--shell-image-win", &self.shell_image_win),
            ("--workingdirinit-image", &self.workingdirinit_image),
        ];
        let given = flags.into_iter().filter(|(_, image)| image.is_some());
        given.map(|(flag, _)| flag).collect()
    }
}

/// Who acts if there are several.
#[derive(Debug, Args)]
pub struct Sharing {
    /// Act without an election: no other controller may run
    #[arg(
        long,
        num_args = 0..=1,
        require_equals = true,
        default_value_t = false,
        default_missing_value = "true",
        action = clap::ArgAction::Set,
        value_name = "true|false",
        hide_default_value = true,
        hide_possible_values = true
    )]
    pub disable_ha: bool,
    /// ConfigMap that says how the controllers share the work
    #[arg(
        long,
        env = "CONFIG_LEADERELECTION_NAME",
        value_name = "NAME",
        default_value = "config-leader-election-controller"
    )]
    pub leader_election: String,
    /// Share the work by the ordinals of a StatefulSet instead of an election: name of this pod
    #[arg(
        long,
        env = "STATEFUL_CONTROLLER_ORDINAL",
        value_name = "POD",
        requires = "stateful_service"
    )]
    pub stateful_pod: Option<String>,
    /// Headless service of that StatefulSet
    #[arg(long, env = "STATEFUL_SERVICE_NAME", value_name = "SERVICE")]
    pub stateful_service: Option<String>,
    /// Port of that service
    #[arg(
        long,
        env = "STATEFUL_SERVICE_PORT",
        value_name = "PORT",
        default_value = "80"
    )]
    pub stateful_port: String,
    /// Protocol of that service
    #[arg(
        long,
        env = "STATEFUL_SERVICE_PROTOCOL",
        value_name = "PROTOCOL",
        default_value = "http"
    )]
    pub stateful_protocol: String,
}

/// Who looks after the process.
#[derive(Debug, Args)]
pub struct Probes {
    /// Port that answers probes [default: 8080, if it is free]
    #[arg(long, env = "PROBES_PORT", value_name = "PORT")]
    pub probes_port: Option<u16>,
}

/// The commands that take upstream's flags with one dash, too.
const COMPONENTS: [&str; 2] = ["controller", "webhook"];

/// Long flags with one dash get their second, if the command is one that upstream starts so.
pub fn two_dashes(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    let is_flag = |argument: &OsStr| argument.as_encoded_bytes().starts_with(b"-");
    let grammar = Arguments::command();
    let Some((place, component)) = arguments
        .iter()
        .enumerate()
        .skip(1)
        .find(|(_, argument)| !is_flag(argument))
        .filter(|(_, argument)| COMPONENTS.iter().any(|name| *name == argument.as_os_str()))
        .and_then(|(place, name)| Some((place, grammar.find_subcommand(name)?)))
    else {
        return arguments;
    };
    for argument in arguments.iter_mut().skip(place + 1) {
        let Some(text) = argument.to_str().and_then(|text| text.strip_prefix('-')) else {
            continue;
        };
        let name = text.split('=').next().unwrap_or_default();
        let known = |flag: &clap::Arg| flag.get_long() == Some(name);
        if name.len() > 1 && component.get_arguments().any(known) {
            *argument = format!("--{text}").into();
        }
    }
    arguments
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::arguments::Command;

    fn controller(line: &str) -> Controller {
        let words = line.split_whitespace().map(OsString::from);
        match Arguments::try_parse_from(two_dashes(words)).map(|arguments| arguments.command) {
            Ok(Command::Controller(controller)) => *controller,
            other => panic!("{line}: {other:?}"),
        }
    }

    /// T-418, T-419, P-397: a deployment of upstream's controller has these flags.
    #[test]
    fn the_controller_takes_upstreams_flags_with_one_dash_or_two() {
        for dashes in ["-", "--"] {
            let line = "tektite controller -entrypoint-image e -nop-image n -sidecarlogresults-image s -shell-image sh \
                -shell-image-win=w -workingdirinit-image d -namespace ns -disable-ha=true -threads-per-controller 3 \
                -resync-period 1h30m -kube-api-qps 2.5 -kube-api-burst 7 -kubeconfig k -server https://h -cluster c";
            let controller = controller(&line.replace(" -", &format!(" {dashes}")));
            let images = &controller.images;
            assert_eq!(images.entrypoint_image, "e");
            assert_eq!(images.nop_image.as_deref(), Some("n"));
            assert_eq!(images.sidecarlogresults_image.as_deref(), Some("s"));
            let unused = [
                "--shell-image",
                "--shell-image-win",
                "--workingdirinit-image",
            ];
            assert_eq!(images.unused(), unused);
            let target = &controller.target;
            assert_eq!(target.namespace.as_deref(), Some("ns"));
            assert_eq!(target.kubeconfig.as_deref(), Some("k".as_ref()));
            assert!(controller.sharing.disable_ha);
            assert_eq!(controller.threads_per_controller, NonZeroUsize::new(3));
            assert_eq!(controller.resync_period.to_string(), "1h30m0s");
            let access = &controller.access;
            assert_eq!((access.kube_api_qps, access.kube_api_burst), (2.5, 7));
            assert_eq!(access.server.as_deref(), Some("https://h"));
            assert_eq!(access.cluster.as_deref(), Some("c"));
        }
        let plain = controller("tektite -vv controller -vn ns --disable-ha");
        assert!(plain.sharing.disable_ha && plain.images.unused().is_empty());
        assert_eq!(plain.target.namespace.as_deref(), Some("ns"));
        assert_eq!(plain.resync_period.to_string(), "10h0m0s");
        assert!(!controller("tektite controller").sharing.disable_ha);
    }

    #[test]
    fn other_commands_keep_their_dashes() {
        for line in [
            "tektite run -namespace x",
            "tektite -v list -output",
            "tektite",
        ] {
            let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
            assert_eq!(two_dashes(words.clone()), words);
        }
    }
}
