//! Questions and answers as DNS writes them.
//!
//! Source: RFC 1035 section 4, RFC 2782 (SRV), RFC 3596 (AAAA), RFC 6891 (EDNS).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::config::DnsRecord;

/// What answers are allowed to be long over UDP.
pub(super) const UDP_BYTES: u16 = 4096;

/// A record of the kind asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    /// Names end in a dot.
    Srv {
        target: String,
        port: u16,
    },
    Mx(String),
    Ns(String),
    Address(IpAddr),
}

/// What a server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// 0 is success, 3 says that there is no such name.
    pub code: u8,
    /// There is more, over TCP.
    pub truncated: bool,
    pub records: Vec<Record>,
}

fn number_of(kind: DnsRecord) -> u16 {
    match kind {
        DnsRecord::A => 1,
        DnsRecord::Ns => 2,
        DnsRecord::Mx => 15,
        DnsRecord::Aaaa => 28,
        DnsRecord::Srv => 33,
    }
}

/// The question for `name`, which ends in a dot; `None` where it is no name.
pub(super) fn question(id: u16, name: &str, kind: DnsRecord) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(name.len() + 32);
    out.extend(id.to_be_bytes());
    // Recursion desired; one question, one additional record.
    out.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
    for label in name.strip_suffix('.')?.split('.') {
        if label.is_empty() || label.len() > 63 {
            return None;
        }
        out.push(label.len() as u8);
        out.extend(label.bytes());
    }
    if name.len() > 254 {
        return None;
    }
    out.push(0);
    out.extend(number_of(kind).to_be_bytes());
    out.extend([0, 1]);
    out.extend([0, 0, 41]);
    out.extend(UDP_BYTES.to_be_bytes());
    out.extend([0; 6]);
    Some(out)
}

/// Reads the answer to the question with `id`; `None` where it is none.
pub(super) fn answer(bytes: &[u8], id: u16, kind: DnsRecord) -> Option<Answer> {
    let number = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    let flags = number(2)?;
    if number(0)? != id || flags & 0x8000 == 0 {
        return None;
    }
    let (questions, answers) = (number(4)?, number(6)?);
    let mut at = 12;
    for _ in 0..questions {
        at = name(bytes, at)?.1 + 4;
    }
    let mut records = Vec::new();
    for _ in 0..answers {
        at = name(bytes, at)?.1;
        let (record, length) = (number(at)?, usize::from(number(at + 8)?));
        let data = at + 10;
        at = data + length;
        let content = bytes.get(data..at)?;
        // Others come along, as CNAME does with A.
        if record != number_of(kind) {
            continue;
        }
        records.push(match kind {
            DnsRecord::Srv => Record::Srv { target: name(bytes, data + 6)?.0, port: number(data + 4)? },
            DnsRecord::Mx => Record::Mx(name(bytes, data + 2)?.0),
            DnsRecord::Ns => Record::Ns(name(bytes, data)?.0),
            DnsRecord::A => Record::Address(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(content).ok()?))),
            DnsRecord::Aaaa => Record::Address(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(content).ok()?))),
        });
    }
    Some(Answer { code: flags as u8 & 15, truncated: flags & 0x0200 != 0, records })
}

/// The name at `at`, with a dot at its end, and the position behind it.
fn name(bytes: &[u8], mut at: usize) -> Option<(String, usize)> {
    let mut out = String::new();
    let mut behind = None;
    // Pointers could run in a circle; a name has no more than 127 labels.
    for _ in 0..256 {
        let length = usize::from(*bytes.get(at)?);
        match length {
            0 => {
                if out.is_empty() {
                    out.push('.');
                }
                return Some((out, behind.unwrap_or(at + 1)));
            }
            1..64 => {
                out.push_str(&String::from_utf8_lossy(bytes.get(at + 1..at + 1 + length)?));
                out.push('.');
                at += 1 + length;
            }
            192.. => {
                behind.get_or_insert(at + 2);
                at = (length & 63) << 8 | usize::from(*bytes.get(at + 1)?);
            }
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_are_none() {
        let long = format!("{}.", "a".repeat(64));
        for name in ["", "a", "a..b.", ".", long.as_str()] {
            assert_eq!(question(1, name, DnsRecord::A), None, "{name}");
        }
        assert!(question(1, "a.b.", DnsRecord::A).is_some());
    }

    #[test]
    fn addresses_and_what_comes_along() {
        let mut bytes = vec![0, 7, 0x81, 0x80, 0, 0, 0, 2, 0, 0, 0, 0];
        bytes.extend([1, b'a', 0, 0, 5, 0, 1, 0, 0, 0, 1, 0, 2, 0xc0, 12]);
        bytes.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 10, 0, 0, 1]);
        let expected = Record::Address(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)));
        assert_eq!(answer(&bytes, 7, DnsRecord::A).unwrap().records, [expected]);
        assert_eq!(answer(&bytes, 8, DnsRecord::A), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for kind in [DnsRecord::A, DnsRecord::Aaaa, DnsRecord::Srv, DnsRecord::Mx, DnsRecord::Ns] {
                let id = u16::from_be_bytes([*bytes.first().unwrap_or(&0), *bytes.get(1).unwrap_or(&0)]);
                let _ = answer(&bytes, id, kind);
            }
        }
    }
}
