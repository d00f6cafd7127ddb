//! The command line's grammar. The forms in the README are stable: scripts rely on them.

mod component;

use std::net::SocketAddr;
use std::path::PathBuf;

pub use component::{Access, Controller, Images, Probes, Sharing, Webhook, two_dashes};

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Tekton pipelines on this machine or on any cluster.
#[derive(Debug, Parser)]
#[command(name = "tektite", version, about, disable_help_subcommand = true)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Tell what goes on inside, on standard error; twice for more.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run what manifests hold and follow it to its end
    Run(Run),
    /// Start a durable local cluster
    Up(Up),
    /// Stop the local cluster
    Down(Down),
    /// Say whether the local cluster runs, and what it holds
    Status(Status),
    /// Run the controllers alone, against any cluster that has the CRDs
    Controller(Box<Controller>),
    /// Answer a cluster's admission and conversion reviews by TLS
    Webhook(Webhook),
    /// Print the CustomResourceDefinitions
    Crds(Crds),
    /// List runs, tasks and pipelines
    List(List),
    /// Describe a run
    Describe(Describe),
    /// Print the logs of a run
    Logs(Logs),
    /// Cancel a run
    Cancel(Cancel),
    /// Run again what failed of a PipelineRun, with the results of what did not
    Rerun(Rerun),
    /// Say what is wrong with manifests, without a cluster
    Lint(Lint),
    /// Manage the images of the local cluster
    #[command(subcommand)]
    Image(Image),
}

/// Which cluster to talk to.
#[derive(Debug, Clone, Default, Args)]
pub struct Target {
    /// Kubeconfig of the cluster [default: $KUBECONFIG, then the local cluster's, then ~/.kube/config; for `run` none: it makes
    /// a private cluster]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context within the kubeconfig
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// Namespace [default: the context's]
    #[arg(short, long, value_name = "NAME")]
    pub namespace: Option<String>,
}

impl Target {
    /// Whether an existing cluster was named.
    pub fn is_given(&self) -> bool {
        self.kubeconfig.is_some() || self.context.is_some()
    }
}

/// How to print objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
}

/// `tektite run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Manifests: files, directories, or - for standard input
    #[arg(required = true, value_name = "FILE|DIR|-")]
    pub manifests: Vec<PathBuf>,
    /// A param of the Pipeline or Task that is started; k=v, repeatable. [a,b] and {k: v} give arrays and objects
    #[arg(short, long = "param", value_name = "K=V")]
    pub params: Vec<String>,
    /// A workspace: name=dir=PATH, name=emptyDir, name=claim=NAME, name=config=NAME or name=secret=NAME; repeatable
    #[arg(short, long = "workspace", value_name = "NAME=SOURCE")]
    pub workspaces: Vec<String>,
    /// The ServiceAccount that the run's pods use
    #[arg(short, long, value_name = "NAME")]
    pub serviceaccount: Option<String>,
    /// Print the final objects on standard output; logs go to standard error
    #[arg(short, long, value_enum)]
    pub output: Option<Format>,
    /// Only warn about what plain Tekton accepts, such as surplus params
    #[arg(long)]
    pub lenient: bool,
    /// Image names to replace: a file such as the images.yaml that may lie beside the manifests
    #[arg(long, value_name = "FILE")]
    pub images: Option<PathBuf>,
    /// Use an existing cluster instead of a private one.
    #[command(flatten)]
    pub target: Target,
}

/// Where a local cluster lives.
#[derive(Debug, Clone, Default, Args)]
pub struct DataDir {
    /// Directory of the cluster [default: $XDG_DATA_HOME/tektite, or /var/lib/tektite for root]
    #[arg(long, value_name = "DIR", env = "TEKTITE_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
}

/// `tektite up`.
#[derive(Debug, Args)]
pub struct Up {
    /// Where it lives.
    #[command(flatten)]
    pub data_dir: DataDir,
    /// Address to serve the API on [default: the last one used, else a free port on 127.0.0.1]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// Return as soon as it is ready; `tektite down` stops it
    #[arg(short, long)]
    pub detach: bool,
    /// Run no pods: leave them to another node
    #[arg(long)]
    pub no_node: bool,
    /// Run no controllers: leave runs to `tektite controller`
    #[arg(long)]
    pub no_controller: bool,
    /// This is the process in the background.
    #[arg(long, hide = true, conflicts_with = "detach")]
    pub detached: bool,
}

/// `tektite down`.
#[derive(Debug, Args)]
pub struct Down {
    /// Which cluster.
    #[command(flatten)]
    pub data_dir: DataDir,
}

/// `tektite status`.
#[derive(Debug, Args)]
pub struct Status {
    /// Which cluster.
    #[command(flatten)]
    pub data_dir: DataDir,
}

/// `tektite crds`.
#[derive(Debug, Args)]
pub struct Crds {
    /// How to print them
    #[arg(short, long, value_enum, default_value_t = Format::Yaml)]
    pub output: Format,
}

/// What `list` lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Listed {
    /// PipelineRuns and TaskRuns.
    #[value(aliases = ["run"])]
    Runs,
    /// TaskRuns.
    #[value(aliases = ["taskrun", "tr"])]
    Taskruns,
    /// PipelineRuns.
    #[value(aliases = ["pipelinerun", "pr"])]
    Pipelineruns,
    /// Tasks.
    #[value(aliases = ["task"])]
    Tasks,
    /// Pipelines.
    #[value(aliases = ["pipeline"])]
    Pipelines,
}

/// `tektite list`.
#[derive(Debug, Args)]
pub struct List {
    /// What to list
    #[arg(value_enum, default_value_t = Listed::Runs)]
    pub what: Listed,
    /// In all namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Print the objects
    #[arg(short, long, value_enum)]
    pub output: Option<Format>,
    /// Which cluster.
    #[command(flatten)]
    pub target: Target,
}

/// `tektite describe`.
#[derive(Debug, Args)]
pub struct Describe {
    /// Name of a PipelineRun or TaskRun; `pipelinerun/NAME` or `taskrun/NAME` if both exist
    pub run: String,
    /// Print the object
    #[arg(short, long, value_enum)]
    pub output: Option<Format>,
    /// Which cluster.
    #[command(flatten)]
    pub target: Target,
}

/// `tektite logs`.
#[derive(Debug, Args)]
pub struct Logs {
    /// Name of a PipelineRun or TaskRun; `pipelinerun/NAME` or `taskrun/NAME` if both exist
    pub run: String,
    /// Follow until the run has ended
    #[arg(short, long)]
    pub follow: bool,
    /// Which cluster.
    #[command(flatten)]
    pub target: Target,
}

/// `tektite cancel`.
#[derive(Debug, Args)]
pub struct Cancel {
    /// Name of a PipelineRun or TaskRun; `pipelinerun/NAME` or `taskrun/NAME` if both exist
    pub run: String,
    /// Which cluster.
    #[command(flatten)]
    pub target: Target,
}

/// `tektite rerun`.
#[derive(Debug, Args)]
pub struct Rerun {
    /// Name of a PipelineRun that has ended
    pub run: String,
    /// Run this task again too, and all that depends on it; repeatable
    #[arg(long, value_name = "TASK")]
    pub from: Vec<String>,
    /// Which cluster.
    #[command(flatten)]
    pub target: Target,
}

/// `tektite lint`.
#[derive(Debug, Args)]
pub struct Lint {
    /// Manifests: files, directories, or - for standard input
    #[arg(required = true, value_name = "FILE|DIR|-")]
    pub manifests: Vec<PathBuf>,
    /// Only warn about what plain Tekton accepts or what may exist elsewhere
    #[arg(long)]
    pub lenient: bool,
}

/// `tektite image`.
#[derive(Debug, Subcommand)]
pub enum Image {
    /// Add an image from a docker-archive, an OCI layout tar or an OCI layout directory
    Load {
        /// The archive or directory
        #[arg(value_name = "FILE.tar|DIR")]
        path: PathBuf,
        /// Which cluster.
        #[command(flatten)]
        data_dir: DataDir,
    },
    /// List the images
    List {
        /// Which cluster.
        #[command(flatten)]
        data_dir: DataDir,
    },
    /// Remove images
    Rm {
        /// References or digests
        #[arg(required = true)]
        images: Vec<String>,
        /// Which cluster.
        #[command(flatten)]
        data_dir: DataDir,
    },
}
