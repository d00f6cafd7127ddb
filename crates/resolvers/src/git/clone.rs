//! Fetching one file of one revision from a Git server, without a clone on disk: the least of Git's protocol that does it.

use std::path::Path;
use std::process::Stdio;

use base64::Engine as _;
use bytes::Bytes;
use reqwest::{Method, StatusCode, Url, header};
use tektite_oci::Fetched;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::object::{Objects, Oid};
use super::packet::{Head, head};
use super::path::{Search, find};
use super::protocol::{Offer, ask_objects, ask_refs, choose, read_offer, read_pack, read_refs};
use crate::fetch::{FetchError, Fetcher, forbidden, look_up};
use crate::framework::ResolveError;

/// The longest answer: a pack of one revision, without file contents where the server can leave them out.
const ANSWER: u64 = 32 * 1024 * 1024;
/// What one revision may hold when unpacked.
const UNPACKED: usize = 96 * 1024 * 1024;
/// The longest file.
const FILE: usize = 4 * 1024 * 1024;
/// The port of Git's own protocol.
const GIT_PORT: u16 = 9418;

/// What is wanted.
pub(super) struct Wanted<'a> {
    pub(super) url: &'a str,
    pub(super) revision: &'a str,
    pub(super) path: &'a str,
    /// A token for HTTP servers.
    pub(super) token: Option<&'a str>,
    /// The directory whose repositories may be read by `file://` URLs, if there is one.
    pub(super) local_root: Option<&'a str>,
}

/// A file, and the commit it was found in.
pub(super) struct FoundFile {
    pub(super) content: Vec<u8>,
    pub(super) commit: String,
}

/// Fetches what is wanted.
pub(super) async fn fetch_file(
    wanted: &Wanted<'_>,
    fetcher: &Fetcher,
) -> Result<FoundFile, ResolveError> {
    // Upstream's words: it runs `git clone` and then `git fetch` (P-335).
    let cloning = |error: Trouble| match error {
        Trouble::Unauthenticated => ResolveError::Failed(
            "error resolving repository: clone error: authentication required".into(),
        ),
        Trouble::TimedOut(text) => ResolveError::Transient(text),
        Trouble::Other(text) => ResolveError::Failed(format!(
            "error resolving repository: git clone error: fatal: {text}: exit status 128"
        )),
    };
    let fetching = |error: Trouble| match error {
        Trouble::TimedOut(text) => ResolveError::Transient(text),
        other => ResolveError::Failed(format!(
            "git fetch error: fatal: {}: exit status 128",
            other.text()
        )),
    };
    let mut server = Server::open(wanted, fetcher).await.map_err(cloning)?;
    let offer = read_offer(&server.greeting).map_err(|text| cloning(Trouble::Other(text)))?;
    let commit = server
        .find_commit(&offer, wanted.revision)
        .await
        .map_err(fetching)?;
    let mut objects = Objects::new(offer.hash(), UNPACKED);
    objects = server
        .fetch(&offer, &commit, objects)
        .await
        .map_err(fetching)?;
    let (commit, tree) = objects
        .commit(&commit)
        .map_err(|text| fetching(Trouble::Other(text)))?;
    let opening = |text: String| {
        ResolveError::Failed(format!("error opening file {:?}: {text}", wanted.path))
    };
    loop {
        let needed = match find(&objects, &tree, wanted.path).map_err(opening)? {
            Search::Found(file) => match objects.blob(&file) {
                Some(content) if content.len() > FILE => {
                    return Err(opening(format!("larger than {FILE} bytes")));
                }
                Some(content) => {
                    return Ok(FoundFile {
                        content: content.to_vec(),
                        commit: commit.to_string(),
                    });
                }
                None => file,
            },
            Search::Needs(link) => link,
        };
        if !offer.is_lazy() {
            return Err(opening("the server did not send its content".into()));
        }
        objects = server
            .fetch(&offer, &needed, objects)
            .await
            .map_err(fetching)?;
        if objects.blob(&needed).is_none() {
            return Err(opening("the server did not send its content".into()));
        }
    }
}

/// What went wrong between us and a server.
enum Trouble {
    /// It wants to know who asks.
    Unauthenticated,
    TimedOut(String),
    Other(String),
}

impl Trouble {
    fn text(self) -> String {
        match self {
            Self::Unauthenticated => "authentication required".into(),
            Self::TimedOut(text) | Self::Other(text) => text,
        }
    }
}

impl From<FetchError> for Trouble {
    fn from(error: FetchError) -> Self {
        match ResolveError::from(error) {
            ResolveError::Failed(text) => Self::Other(text),
            ResolveError::Transient(text) => Self::TimedOut(text),
        }
    }
}

impl From<String> for Trouble {
    fn from(text: String) -> Self {
        Self::Other(text)
    }
}

/// A server that has introduced itself.
struct Server<'f> {
    greeting: Bytes,
    line: Line<'f>,
}

/// The way to it.
enum Line<'f> {
    /// Every request stands alone.
    Http {
        fetcher: &'f Fetcher,
        /// The repository's URL after redirects.
        base: Url,
        authorization: Option<String>,
    },
    /// A conversation.
    Stream(Stream),
}

enum Stream {
    Tcp(TcpStream),
    Program(Child),
}

impl<'f> Server<'f> {
    async fn open(wanted: &Wanted<'_>, fetcher: &'f Fetcher) -> Result<Self, Trouble> {
        let url = wanted.url;
        let Ok(parsed) = Url::parse(url) else {
            return Err(Trouble::Other(format!(
                "{url}: only http, https and git URLs are fetched"
            )));
        };
        match parsed.scheme() {
            "http" | "https" => Self::open_http(wanted, parsed, fetcher).await,
            "git" => Self::open_tcp(&parsed, fetcher).await,
            "file" => Self::open_local(wanted, &parsed).await,
            scheme => Err(Trouble::Other(format!(
                "{url}: {scheme} is not fetched, only http, https and git"
            ))),
        }
    }

    async fn open_http(
        wanted: &Wanted<'_>,
        mut url: Url,
        fetcher: &'f Fetcher,
    ) -> Result<Self, Trouble> {
        let authorization = match wanted.token {
            Some(token) => Some(basic("git", token)),
            None => of_url(&url),
        };
        // Both only fail for URLs that have no host.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        let plain = url.as_str().trim_end_matches('/').to_owned();
        let mut request = fetcher
            .request(
                Method::GET,
                &format!("{plain}/info/refs?service=git-upload-pack"),
            )?
            .header("Git-Protocol", "version=2");
        if let Some(value) = &authorization {
            request = request.header(header::AUTHORIZATION, value);
        }
        let fetched = fetcher.send(request, ANSWER).await?;
        check(&fetched, wanted.url, authorization.is_some())?;
        let end = fetched.url.as_str().split('?').next().unwrap_or_default();
        let base = end
            .strip_suffix("/info/refs")
            .and_then(|base| Url::parse(base).ok())
            .ok_or_else(|| {
                Trouble::Other(format!("{}: redirected to {}", wanted.url, fetched.url))
            })?;
        // A token is for the server that was named, not for where that one points.
        let authorization = authorization.filter(|_| base.origin() == url.origin());
        Ok(Self {
            greeting: fetched.body,
            line: Line::Http {
                fetcher,
                base,
                authorization,
            },
        })
    }

    async fn open_tcp(url: &Url, fetcher: &Fetcher) -> Result<Self, Trouble> {
        let host = url
            .host_str()
            .unwrap_or_default()
            .trim_matches(['[', ']'])
            .to_owned();
        let port = url.port().unwrap_or(GIT_PORT);
        let refused =
            |error: std::io::Error| Trouble::Other(format!("unable to connect to {host}: {error}"));
        let addresses = look_up(&host, port, fetcher.policy())
            .await
            .map_err(refused)?;
        if addresses.is_empty() {
            return Err(Trouble::Other(forbidden(&host)));
        }
        let mut tcp = TcpStream::connect(&addresses[..]).await.map_err(refused)?;
        let mut hello = Vec::new();
        super::packet::data(
            &mut hello,
            &format!(
                "git-upload-pack {}\0host={host}:{port}\0\0version=2\0",
                url.path()
            ),
        );
        tcp.write_all(&hello).await.map_err(refused)?;
        let greeting = read_message(&mut tcp).await?;
        Ok(Self {
            greeting,
            line: Line::Stream(Stream::Tcp(tcp)),
        })
    }

    /// A repository of this machine, read by `git upload-pack`: only below the directory that the ConfigMap names.
    async fn open_local(wanted: &Wanted<'_>, url: &Url) -> Result<Self, Trouble> {
        let Some(root) = wanted.local_root else {
            return Err(Trouble::Other(format!(
                "{}: files of this machine are not fetched",
                wanted.url
            )));
        };
        let outside = || Trouble::Other(format!("{}: not a repository below {root}", wanted.url));
        let path = url.to_file_path().map_err(|()| outside())?;
        // A repository with a work tree keeps its own in `.git`, which may be a link: it too has to be below the root.
        let within = match canonical(&path.join(".git")).await {
            Some(within) => Some(within),
            None => canonical(&path).await,
        };
        let path = match (canonical(root.as_ref()).await, within) {
            (Some(root), Some(path)) if path.starts_with(&root) => path,
            _ => return Err(outside()),
        };
        // No configuration of a user or of the system, no hook, no prompt; killed when the fetch is given up.
        let mut program = Command::new("git")
            .args(["-c", "uploadpack.allowFilter=true"])
            .args(["-c", "uploadpack.allowAnySHA1InWant=true"])
            .arg("-c")
            .arg(format!("safe.directory={}", path.display()))
            .args(["upload-pack", "--strict"])
            .arg(&path)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("GIT_PROTOCOL", "version=2")
            .env("HOME", "/nonexistent")
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| {
                Trouble::Other(format!(
                    "{}: `git`, which reads repositories of this machine, cannot be run: {error}",
                    wanted.url
                ))
            })?;
        let Some(output) = &mut program.stdout else {
            return Err(outside());
        };
        let greeting = read_message(output).await.map_err(|_| {
            Trouble::Other(format!(
                "'{}' does not appear to be a git repository",
                wanted.url
            ))
        })?;
        Ok(Self {
            greeting,
            line: Line::Stream(Stream::Program(program)),
        })
    }

    async fn find_commit(&mut self, offer: &Offer, revision: &str) -> Result<Oid, Trouble> {
        let hash = offer.hash();
        if let Some(oid) = Oid::read(revision, hash) {
            return Ok(oid);
        }
        let answered;
        let refs = match offer {
            Offer::V0 { refs, .. } => refs,
            Offer::V2 { .. } => {
                let answer = self.ask(ask_refs(revision, hash)).await?;
                answered = read_refs(&answer, hash)?;
                &answered
            }
        };
        choose(revision, refs)
            .cloned()
            .ok_or_else(|| Trouble::Other(format!("couldn't find remote ref {revision}")))
    }

    /// Adds what the server sends of `oid` to `objects`.
    async fn fetch(
        &mut self,
        offer: &Offer,
        oid: &Oid,
        mut objects: Objects,
    ) -> Result<Objects, Trouble> {
        let answer = self.ask(ask_objects(offer, oid)).await?;
        let pack = read_pack(offer, &answer)?;
        drop(answer);
        // Unpacking a large pack takes a while: not on a thread that others wait for.
        let unpacked = tokio::task::spawn_blocking(move || {
            objects.unpack(&pack)?;
            Ok::<_, String>(objects)
        });
        match unpacked.await {
            Ok(objects) => Ok(objects?),
            Err(stopped) => Err(Trouble::Other(stopped.to_string())),
        }
    }

    async fn ask(&mut self, request: Vec<u8>) -> Result<Bytes, Trouble> {
        match &mut self.line {
            Line::Http {
                fetcher,
                base,
                authorization,
            } => {
                let mut call = fetcher
                    .request(Method::POST, &format!("{base}/git-upload-pack"))?
                    .header(
                        header::CONTENT_TYPE,
                        "application/x-git-upload-pack-request",
                    )
                    .header(header::ACCEPT, "application/x-git-upload-pack-result")
                    .body(request);
                // Version 2 is asked for in every request; a server that does not know it takes no notice.
                call = call.header("Git-Protocol", "version=2");
                if let Some(value) = authorization {
                    call = call.header(header::AUTHORIZATION, value.as_str());
                }
                let fetched = fetcher.send(call, ANSWER).await?;
                check(&fetched, base.as_str(), authorization.is_some())?;
                Ok(fetched.body)
            }
            Line::Stream(Stream::Tcp(tcp)) => converse(tcp, &request).await,
            Line::Stream(Stream::Program(program)) => {
                let (Some(input), Some(output)) = (&mut program.stdin, &mut program.stdout) else {
                    return Err(Trouble::Other("the program has no pipes".into()));
                };
                converse(&mut tokio::io::join(output, input), &request).await
            }
        }
    }
}

/// A login as HTTP carries it.
fn basic(user: &str, password: &str) -> String {
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    format!("Basic {pair}")
}

/// The login that a URL carries.
fn of_url(url: &Url) -> Option<String> {
    let decoded = |text| percent_encoding::percent_decode_str(text).decode_utf8_lossy();
    let (user, password) = (url.username(), url.password());
    (!user.is_empty() || password.is_some())
        .then(|| basic(&decoded(user), &decoded(password.unwrap_or_default())))
}

async fn canonical(path: &Path) -> Option<std::path::PathBuf> {
    tokio::fs::canonicalize(path).await.ok()
}

/// What an HTTP answer means to Git.
fn check(fetched: &Fetched, url: &str, authorized: bool) -> Result<(), Trouble> {
    match fetched.status {
        StatusCode::OK => Ok(()),
        StatusCode::UNAUTHORIZED if !authorized => Err(Trouble::Unauthenticated),
        StatusCode::UNAUTHORIZED => Err(Trouble::Other(format!(
            "Authentication failed for '{url}/'"
        ))),
        StatusCode::NOT_FOUND => Err(Trouble::Other(format!("repository '{url}/' not found"))),
        status => Err(Trouble::Other(format!(
            "unable to access '{url}/': The requested URL returned error: {}",
            status.as_u16()
        ))),
    }
}

async fn converse(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    request: &[u8],
) -> Result<Bytes, Trouble> {
    let broken = |error: std::io::Error| Trouble::Other(error.to_string());
    stream.write_all(request).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    read_message(stream).await
}

/// Reads up to the packet that ends a message.
async fn read_message(stream: &mut (impl AsyncRead + Unpin)) -> Result<Bytes, Trouble> {
    let broken = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => {
            Trouble::Other("the remote end hung up unexpectedly".into())
        }
        _ => Trouble::Other(error.to_string()),
    };
    let mut message = Vec::new();
    loop {
        let mut digits = [0; 4];
        stream.read_exact(&mut digits).await.map_err(broken)?;
        message.extend_from_slice(&digits);
        match head(digits)? {
            Head::Flush => return Ok(message.into()),
            Head::Delimiter => {}
            Head::Data(length) => {
                let start = message.len();
                if (start + length) as u64 > ANSWER {
                    return Err(FetchError::TooLarge(ANSWER).into());
                }
                message.resize(start + length, 0);
                stream
                    .read_exact(&mut message[start..])
                    .await
                    .map_err(broken)?;
                // A server that gives up says so in a last packet, and then hangs up without the end of a message.
                if message[start..].starts_with(b"ERR ") {
                    return Ok(message.into());
                }
            }
        }
    }
}
