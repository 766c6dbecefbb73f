//! Messages from clients, taken apart with every length checked: a malformed one is a protocol violation, never a
//! panic. Source: PostgreSQL 16, "Message Formats".

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::error::{SqlError, sqlstate};

/// The first message of a connection, which has no type byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// A wish for TLS or GSSAPI encryption.
    Encryption,
    Cancel {
        pid: i32,
        secret: i32,
    },
    Startup {
        minor_version: u16,
        parameters: Vec<(String, String)>,
    },
}

/// A prepared statement or a portal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Statement,
    Portal,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frontend {
    Query(String),
    Parse {
        name: String,
        sql: String,
        types: Vec<u32>,
    },
    Bind(Bind),
    Describe {
        target: Target,
        name: String,
    },
    Execute {
        portal: String,
        max_rows: i32,
    },
    Close {
        target: Target,
        name: String,
    },
    Flush,
    Sync,
    Terminate,
    /// What a client sends during COPY FROM, which is never begun here; to be ignored.
    Copy,
    FunctionCall,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    pub portal: String,
    pub statement: String,
    /// One for all, one for each, or none: text.
    pub parameter_formats: Vec<i16>,
    /// `None` is NULL.
    pub parameters: Vec<Option<Bytes>>,
    pub result_formats: Vec<i16>,
}

/// Longest opening message. Source: `MAX_STARTUP_PACKET_LENGTH`, PostgreSQL `pqcomm.h`.
const MAX_OPENING_BYTES: usize = 10_000;
/// While a statement runs, no more than this is read ahead.
const MAX_AHEAD_BYTES: usize = 256 * 1024;

const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;

/// Splits a byte stream into messages. Every method may be dropped while it waits, without loss.
pub struct FrontendReader<R> {
    stream: R,
    buffer: BytesMut,
    max_message_bytes: usize,
}

/// Why there is no next message.
#[derive(Debug)]
pub enum ReadError {
    /// The client went away.
    Closed,
    /// What it sent is no message; the connection cannot go on.
    Malformed(SqlError),
}

fn malformed(what: &str) -> ReadError {
    ReadError::Malformed(SqlError::new(sqlstate::PROTOCOL_VIOLATION, what.to_owned()))
}

impl<R: AsyncRead + Unpin> FrontendReader<R> {
    pub fn new(stream: R, max_message_bytes: usize) -> FrontendReader<R> {
        FrontendReader { stream, buffer: BytesMut::with_capacity(8192), max_message_bytes }
    }

    async fn fill(&mut self) -> Result<(), ReadError> {
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(0) | Err(_) => Err(ReadError::Closed),
            Ok(_) => Ok(()),
        }
    }

    pub async fn opening(&mut self) -> Result<Opening, ReadError> {
        loop {
            if self.buffer.len() >= 4 {
                let length =
                    u32::from_be_bytes([self.buffer[0], self.buffer[1], self.buffer[2], self.buffer[3]]) as usize;
                if !(8..=MAX_OPENING_BYTES).contains(&length) {
                    return Err(malformed("invalid length of startup packet"));
                }
                if self.buffer.len() >= length {
                    let mut body = self.buffer.split_to(length).freeze();
                    body.advance(4);
                    return parse_opening(body).ok_or_else(|| malformed("invalid startup packet layout"));
                }
            }
            self.fill().await?;
        }
    }

    pub async fn message(&mut self) -> Result<Frontend, ReadError> {
        loop {
            if self.buffer.len() >= 5 {
                let kind = self.buffer[0];
                let length =
                    u32::from_be_bytes([self.buffer[1], self.buffer[2], self.buffer[3], self.buffer[4]]) as usize;
                if length < 4 || length > self.max_message_bytes {
                    return Err(malformed(&format!(
                        "invalid message length {length}, the limit is {}",
                        self.max_message_bytes
                    )));
                }
                if self.buffer.len() > length {
                    let mut body = self.buffer.split_to(length + 1).freeze();
                    body.advance(5);
                    return parse_message(kind, body)
                        .ok_or_else(|| malformed(&format!("invalid message of type \"{}\"", kind.escape_ascii())));
                }
            }
            self.fill().await?;
        }
    }

    /// Resolves when the client goes away. Messages that come meanwhile are kept.
    pub async fn closed(&mut self) {
        loop {
            if self.buffer.len() > MAX_AHEAD_BYTES {
                std::future::pending::<()>().await;
            }
            if self.fill().await.is_err() {
                return;
            }
        }
    }
}

fn parse_opening(mut body: Bytes) -> Option<Opening> {
    let code = take_u32(&mut body)?;
    match code {
        SSL_REQUEST | GSS_REQUEST => Some(Opening::Encryption),
        CANCEL_REQUEST => {
            Some(Opening::Cancel { pid: take_u32(&mut body)? as i32, secret: take_u32(&mut body)? as i32 })
        }
        code if code >> 16 == 3 => {
            let mut parameters = Vec::new();
            loop {
                let name = take_text(&mut body)?;
                if name.is_empty() {
                    break;
                }
                parameters.push((name, take_text(&mut body)?));
            }
            Some(Opening::Startup { minor_version: (code & 0xffff) as u16, parameters })
        }
        _ => None,
    }
}

fn parse_message(kind: u8, mut body: Bytes) -> Option<Frontend> {
    let body = &mut body;
    let message = match kind {
        b'Q' => Frontend::Query(take_text(body)?),
        b'P' => {
            let (name, sql) = (take_text(body)?, take_text(body)?);
            let count = take_u16(body)?;
            let types = (0..count).map(|_| take_u32(body)).collect::<Option<Vec<_>>>()?;
            Frontend::Parse { name, sql, types }
        }
        b'B' => {
            let (portal, statement) = (take_text(body)?, take_text(body)?);
            let parameter_formats = take_formats(body)?;
            let count = take_u16(body)?;
            let mut parameters = Vec::new();
            for _ in 0..count {
                parameters.push(match take_u32(body)? as i32 {
                    -1 => None,
                    length => {
                        let length = usize::try_from(length).ok()?;
                        (body.len() >= length).then(|| Some(body.split_to(length)))?
                    }
                });
            }
            let result_formats = take_formats(body)?;
            Frontend::Bind(Bind { portal, statement, parameter_formats, parameters, result_formats })
        }
        b'D' => Frontend::Describe { target: take_target(body)?, name: take_text(body)? },
        b'E' => Frontend::Execute { portal: take_text(body)?, max_rows: take_u32(body)? as i32 },
        b'C' => Frontend::Close { target: take_target(body)?, name: take_text(body)? },
        b'H' => Frontend::Flush,
        b'S' => Frontend::Sync,
        b'X' => Frontend::Terminate,
        b'd' | b'c' | b'f' => return Some(Frontend::Copy),
        b'F' => return Some(Frontend::FunctionCall),
        _ => return None,
    };
    body.is_empty().then_some(message)
}

fn take_u16(body: &mut Bytes) -> Option<u16> {
    (body.len() >= 2).then(|| body.get_u16())
}

fn take_u32(body: &mut Bytes) -> Option<u32> {
    (body.len() >= 4).then(|| body.get_u32())
}

/// Text up to a NUL byte.
fn take_text(body: &mut Bytes) -> Option<String> {
    let end = memchr::memchr(0, body)?;
    let text = body.split_to(end);
    body.advance(1);
    String::from_utf8(text.to_vec()).ok()
}

fn take_formats(body: &mut Bytes) -> Option<Vec<i16>> {
    let count = take_u16(body)?;
    (0..count).map(|_| take_u16(body).map(|format| format as i16)).collect()
}

fn take_target(body: &mut Bytes) -> Option<Target> {
    if body.is_empty() {
        return None;
    }
    match body.get_u8() {
        b'S' => Some(Target::Statement),
        b'P' => Some(Target::Portal),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;

    async fn read(bytes: &[u8]) -> Result<Frontend, ReadError> {
        FrontendReader::new(bytes, 1 << 20).message().await
    }

    #[tokio::test]
    async fn messages_are_taken_apart() {
        let message = read(b"Q\0\0\0\x0dselect 1\0").await.unwrap();
        assert_eq!(message, Frontend::Query("select 1".to_owned()));
        let bind = read(b"B\0\0\0\x15p\0s\0\0\x01\0\x01\0\x01\0\0\0\x01x\0\0").await.unwrap();
        assert_eq!(
            bind,
            Frontend::Bind(Bind {
                portal: "p".to_owned(),
                statement: "s".to_owned(),
                parameter_formats: vec![1],
                parameters: vec![Some(Bytes::from_static(b"x"))],
                result_formats: vec![],
            })
        );
        assert!(matches!(read(b"Q\0\0\0\x0dsel").await, Err(ReadError::Closed)));
        assert!(matches!(read(b"Q\x7f\xff\xff\xff").await, Err(ReadError::Malformed(_))));
        assert!(matches!(read(b"Q\0\0\0\x05x").await, Err(ReadError::Malformed(_))), "no NUL at the end");
    }

    #[tokio::test]
    async fn any_bytes_are_a_message_or_an_error() {
        let mut random = rand::rng();
        for _ in 0..20_000 {
            let length = random.random_range(0..40usize);
            let mut bytes: Vec<u8> = (0..length).map(|_| random.random_range(0..8u8)).collect();
            let kind = b"QPBDECHSXdF"[random.random_range(0..11usize)];
            let mut message = vec![kind];
            message.extend_from_slice(&(length as u32 + 4).to_be_bytes());
            message.append(&mut bytes);
            let _ = read(&message).await;
            let _ = FrontendReader::new(&message[1..], 1 << 20).opening().await;
        }
    }
}
