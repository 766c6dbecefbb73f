//! Asks the servers of `/etc/resolv.conf`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::message::{Answer, Record, UDP_BYTES, answer, question};
use crate::config::DnsRecord;

/// How long a server may take.
const TIMEOUT: Duration = Duration::from_secs(2);

const SUCCESS: u8 = 0;
const NO_SUCH_NAME: u8 = 3;

/// No server could tell; the name may exist or not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(in crate::discovery) struct DnsError(String);

/// Where servers are written down. The file is read for every lookup.
#[derive(Debug, Clone)]
pub(in crate::discovery) struct Resolver {
    pub path: PathBuf,
    pub port: u16,
}

impl Default for Resolver {
    fn default() -> Resolver {
        Resolver { path: PathBuf::from("/etc/resolv.conf"), port: 53 }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Settings {
    servers: Vec<IpAddr>,
    search: Vec<String>,
    dots: usize,
}

impl Settings {
    fn parse(text: &str) -> Settings {
        let mut settings = Settings { servers: Vec::new(), search: Vec::new(), dots: 1 };
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    settings.servers.extend(words.next().and_then(|word| word.parse::<IpAddr>().ok()))
                }
                Some("domain") => settings.search = words.take(1).map(str::to_owned).collect(),
                Some("search") => settings.search = words.map(str::to_owned).collect(),
                Some("options") => {
                    let mut dots =
                        words.filter_map(|word| word.strip_prefix("ndots:")).filter_map(|dots| dots.parse().ok());
                    settings.dots = dots.next_back().unwrap_or(settings.dots).min(15);
                }
                _ => {}
            }
        }
        if settings.servers.is_empty() {
            settings.servers.push(IpAddr::V4(Ipv4Addr::LOCALHOST));
        }
        settings
    }

    /// The names to try for `name`, in order; each ends in a dot.
    fn names(&self, name: &str) -> Vec<String> {
        if name.ends_with('.') {
            return vec![name.to_owned()];
        }
        let own = format!("{name}.");
        let searched = self.search.iter().map(|domain| format!("{name}.{}.", domain.trim_end_matches('.')));
        // The count of labels, as in the library that Prometheus uses.
        if name.split('.').count() > self.dots {
            std::iter::once(own.clone()).chain(searched).collect()
        } else {
            searched.chain(std::iter::once(own.clone())).collect()
        }
    }
}

impl Resolver {
    /// The records of `name`; none where all servers agree that there is no such name.
    ///
    /// # Errors
    /// [`DnsError`] where that cannot be known.
    pub(super) async fn lookup(&self, name: &str, kind: DnsRecord) -> Result<Vec<Record>, DnsError> {
        let text = std::fs::read_to_string(&self.path)
            .map_err(|error| DnsError(format!("could not load resolv.conf: {error}")))?;
        let settings = Settings::parse(&text);
        let mut certain = true;
        for name in settings.names(name) {
            match self.ask_any(&settings, &name, kind).await {
                Some(answer) if answer.code == SUCCESS => return Ok(answer.records),
                Some(_) => {}
                None => certain = false,
            }
        }
        match certain {
            true => Ok(Vec::new()),
            false => Err(DnsError(format!(
                "could not resolve {name:?}: all servers responded with errors to at least one search domain"
            ))),
        }
    }

    /// The first answer that says whether the name exists.
    async fn ask_any(&self, settings: &Settings, name: &str, kind: DnsRecord) -> Option<Answer> {
        for server in &settings.servers {
            match tokio::time::timeout(2 * TIMEOUT, ask(SocketAddr::new(*server, self.port), name, kind)).await {
                Ok(Ok(answer)) if matches!(answer.code, SUCCESS | NO_SUCH_NAME) => return Some(answer),
                Ok(Ok(answer)) => tracing::debug!(%server, name, code = answer.code, "DNS server refused"),
                Ok(Err(error)) => tracing::warn!(%server, name, err = %error, "DNS resolution failed"),
                Err(_) => tracing::warn!(%server, name, "DNS resolution timed out"),
            }
        }
        None
    }
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "malformed DNS message")
}

/// Over UDP, and over TCP where that is not enough.
async fn ask(server: SocketAddr, name: &str, kind: DnsRecord) -> io::Result<Answer> {
    let id = rand::random();
    let query = question(id, name, kind).ok_or_else(malformed)?;
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(&query).await?;
    let mut buffer = vec![0; usize::from(UDP_BYTES)];
    let length = tokio::time::timeout(TIMEOUT, socket.recv(&mut buffer)).await??;
    let short = answer(&buffer[..length], id, kind).ok_or_else(malformed)?;
    if !short.truncated {
        return Ok(short);
    }
    let mut stream = TcpStream::connect(server).await?;
    stream.write_all(&(query.len() as u16).to_be_bytes()).await?;
    stream.write_all(&query).await?;
    let length = stream.read_u16().await?;
    let mut buffer = vec![0; usize::from(length)];
    stream.read_exact(&mut buffer).await?;
    answer(&buffer, id, kind).ok_or_else(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn search_paths() {
        let settings =
            Settings::parse("nameserver 10.0.0.1\nnameserver fe80::x\nsearch a.org b.org.\noptions ndots:2 x\n");
        assert_eq!(settings.servers, [IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1))]);
        assert_eq!(settings.names("x."), ["x."]);
        assert_eq!(settings.names("x.y"), ["x.y.a.org.", "x.y.b.org.", "x.y."]);
        assert_eq!(settings.names("x.y.z"), ["x.y.z.", "x.y.z.a.org.", "x.y.z.b.org."]);
        assert_eq!(Settings::parse("").servers, [IpAddr::V4(Ipv4Addr::LOCALHOST)]);
    }
}
