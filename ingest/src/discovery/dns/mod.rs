//! `dns_sd_configs`: targets from SRV, A, AAAA, MX and NS records.

mod message;
mod resolver;

use std::collections::BTreeMap;

use tokio::time::{Duration, MissedTickBehavior};

use self::message::Record;
pub(super) use self::resolver::Resolver;
use super::Found;
use super::consul::join_host_port;
use crate::config::{DnsSdConfig, TargetGroup};

/// Keeps `found` in step with the names; a name that no server can tell about stays as it was.
pub(super) async fn run(config: DnsSdConfig, resolver: Resolver, found: Found) {
    let period = config.refresh_interval.as_duration().max(Duration::from_millis(1));
    let mut refresh = tokio::time::interval(period);
    refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known: BTreeMap<String, Vec<TargetGroup>> = BTreeMap::new();
    loop {
        refresh.tick().await;
        let (resolver, record) = (&resolver, config.record);
        let lookups = config.names.iter().map(|name| async move { (name, resolver.lookup(name, record).await) });
        for (name, records) in futures::future::join_all(lookups).await {
            match records {
                Ok(records) => {
                    let records = records.iter().enumerate();
                    let groups = records.map(|(index, record)| group(name, index, record, config.port)).collect();
                    known.insert(name.clone(), groups);
                }
                Err(error) => tracing::error!(err = %error, "Error refreshing DNS targets"),
            }
        }
        found.set(known.values().flatten().cloned().collect());
    }
}

fn group(name: &str, index: usize, record: &Record, port: u16) -> TargetGroup {
    let mut labels = BTreeMap::from([("__meta_dns_name".to_owned(), name.to_owned())]);
    let mut label = |name: &str, value: &str| labels.insert(format!("__meta_dns_{name}"), value.to_owned());
    let unrooted = |name: &str| name.trim_end_matches('.').to_owned();
    let target = match record {
        Record::Srv { target, port } => {
            label("srv_record_target", target);
            label("srv_record_port", &port.to_string());
            join_host_port(&unrooted(target), port)
        }
        Record::Mx(target) => {
            label("mx_record_target", target);
            join_host_port(&unrooted(target), port)
        }
        Record::Ns(target) => {
            label("ns_record_target", target);
            join_host_port(&unrooted(target), port)
        }
        Record::Address(address) => join_host_port(&address.to_string(), port),
    };
    TargetGroup { source: format!("{name}:{index}"), targets: vec![target], labels }
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::*;
    use crate::config::yaml::{self, FromYaml};

    /// A server that knows `_x._tcp.example.org.` and nothing else, and breaks when asked about `broken`.
    async fn serve() -> u16 {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = socket.local_addr().unwrap().port();
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            loop {
                let (length, peer) = socket.recv_from(&mut buffer).await.unwrap();
                let query = &buffer[..length];
                let end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
                let question = &query[12..end];
                let known = question.starts_with(b"\x02_x\x04_tcp\x07example\x03org\x00");
                let broken = question.starts_with(b"\x06broken");
                let mut answer = query[..2].to_vec();
                let code = if broken {
                    2
                } else if known {
                    0
                } else {
                    3
                };
                answer.extend([0x81, 0x80 | code, 0, 1, 0, if known { 2 } else { 0 }, 0, 0, 0, 0]);
                answer.extend(question);
                if known {
                    for (host, port) in [(b"\x01a", 9090_u16), (b"\x01b", 80)] {
                        // Name and domain are pointers into the question.
                        let target = [host.as_slice(), &[0xc0, 12 + 8]].concat();
                        answer.extend([0xc0, 12, 0, 33, 0, 1, 0, 0, 0, 60, 0, 6 + target.len() as u8, 0, 1, 0, 1]);
                        answer.extend(port.to_be_bytes());
                        answer.extend(target);
                    }
                }
                socket.send_to(&answer, peer).await.unwrap();
            }
        });
        port
    }

    #[tokio::test]
    async fn records_become_targets() {
        let port = serve().await;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resolv.conf");
        std::fs::write(&path, "# comment\nnameserver 127.0.0.1\nsearch nowhere.example example.org\noptions ndots:2\n")
            .unwrap();
        let resolver = Resolver { path, port };
        let text = "{names: [_x._tcp, unknown.example., broken.], refresh_interval: 50ms}";
        let config = DnsSdConfig::from_yaml(&yaml::parse(text).unwrap()).unwrap();
        assert!(resolver.lookup("broken.", config.record).await.is_err());
        assert_eq!(resolver.lookup("unknown.example.", config.record).await, Ok(Vec::new()));
        let (groups, mut receiver) = watch::channel(None);
        let task = tokio::spawn(run(config, resolver, Found { groups, changed: watch::channel(0).0 }));
        let groups = receiver.wait_for(Option::is_some).await.unwrap().clone().unwrap();
        task.abort();
        let targets: Vec<&str> = groups.iter().flat_map(|group| &group.targets).map(String::as_str).collect();
        assert_eq!(targets, ["a.example.org:9090", "b.example.org:80"]);
        assert_eq!(groups[0].labels["__meta_dns_srv_record_target"], "a.example.org.");
        assert_eq!(groups[1].labels["__meta_dns_srv_record_port"], "80");
        assert_eq!(groups[1].labels["__meta_dns_name"], "_x._tcp");
    }
}
