//! Messages to clients, appended to one buffer. Source: PostgreSQL 16, "Message Formats".

use crate::error::SqlError;
use crate::output::OutputColumn;
use crate::wire_type;

/// Bytes on their way to a client.
#[derive(Debug, Default)]
pub struct Outbox {
    pub bytes: Vec<u8>,
}

/// Where a transaction stands, as ReadyForQuery tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionState {
    Idle,
    Open,
    Failed,
}

impl Outbox {
    /// Appends one message whose body `write` makes.
    pub fn message(&mut self, kind: u8, write: impl FnOnce(&mut Vec<u8>)) {
        self.bytes.push(kind);
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        write(&mut self.bytes);
        let length = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }

    pub fn authentication_ok(&mut self) {
        self.message(b'R', |body| body.extend_from_slice(&0u32.to_be_bytes()));
    }

    pub fn parameter_status(&mut self, name: &str, value: &str) {
        self.message(b'S', |body| {
            text(body, name);
            text(body, value);
        });
    }

    pub fn backend_key(&mut self, pid: i32, secret: i32) {
        self.message(b'K', |body| {
            body.extend_from_slice(&pid.to_be_bytes());
            body.extend_from_slice(&secret.to_be_bytes());
        });
    }

    /// The client asked for a newer minor version, or for options that are not known.
    pub fn negotiate_version(&mut self, unknown_options: &[String]) {
        self.message(b'v', |body| {
            body.extend_from_slice(&0u32.to_be_bytes());
            body.extend_from_slice(&(unknown_options.len() as u32).to_be_bytes());
            unknown_options.iter().for_each(|option| text(body, option));
        });
    }

    pub fn ready(&mut self, state: TransactionState) {
        let letter = match state {
            TransactionState::Idle => b'I',
            TransactionState::Open => b'T',
            TransactionState::Failed => b'E',
        };
        self.message(b'Z', |body| body.push(letter));
    }

    pub fn error(&mut self, severity: &str, error: &SqlError) {
        self.report(b'E', severity, error.sqlstate, &error.message, error.hint.as_deref(), error.position);
    }

    pub fn notice(&mut self, severity: &str, sqlstate: &str, message: &str) {
        self.report(b'N', severity, sqlstate, message, None, None);
    }

    fn report(
        &mut self,
        kind: u8,
        severity: &str,
        sqlstate: &str,
        message: &str,
        hint: Option<&str>,
        position: Option<usize>,
    ) {
        self.message(kind, |body| {
            let mut field = |letter: u8, value: &str| {
                body.push(letter);
                text(body, value);
            };
            field(b'S', severity);
            field(b'V', severity);
            field(b'C', sqlstate);
            field(b'M', message);
            if let Some(hint) = hint {
                field(b'H', hint);
            }
            if let Some(position) = position {
                field(b'P', &position.to_string());
            }
            body.push(0);
        });
    }

    pub fn row_description(&mut self, columns: &[OutputColumn], formats: &[i16]) {
        self.message(b'T', |body| {
            body.extend_from_slice(&(columns.len() as u16).to_be_bytes());
            for (index, column) in columns.iter().enumerate() {
                text(body, &column.name);
                // From no table that the client could look up.
                body.extend_from_slice(&0u32.to_be_bytes());
                body.extend_from_slice(&0u16.to_be_bytes());
                body.extend_from_slice(&column.type_oid.to_be_bytes());
                let length = wire_type::find(column.type_oid).map_or(-1, |known| known.length);
                body.extend_from_slice(&length.to_be_bytes());
                body.extend_from_slice(&(-1i32).to_be_bytes());
                body.extend_from_slice(&format_of(formats, index).to_be_bytes());
            }
        });
    }

    pub fn parameter_description(&mut self, types: &[u32]) {
        self.message(b't', |body| {
            body.extend_from_slice(&(types.len() as u16).to_be_bytes());
            types.iter().for_each(|oid| body.extend_from_slice(&oid.to_be_bytes()));
        });
    }

    pub fn no_data(&mut self) {
        self.message(b'n', |_| {});
    }

    pub fn parse_complete(&mut self) {
        self.message(b'1', |_| {});
    }

    pub fn bind_complete(&mut self) {
        self.message(b'2', |_| {});
    }

    pub fn close_complete(&mut self) {
        self.message(b'3', |_| {});
    }

    pub fn portal_suspended(&mut self) {
        self.message(b's', |_| {});
    }

    pub fn empty_query(&mut self) {
        self.message(b'I', |_| {});
    }

    pub fn command_complete(&mut self, tag: &str) {
        self.message(b'C', |body| text(body, tag));
    }

    /// COPY to the client begins; `is_binary` for all columns alike.
    pub fn copy_out(&mut self, column_count: usize, is_binary: bool) {
        self.message(b'H', |body| {
            body.push(u8::from(is_binary));
            body.extend_from_slice(&(column_count as u16).to_be_bytes());
            for _ in 0..column_count {
                body.extend_from_slice(&u16::from(is_binary).to_be_bytes());
            }
        });
    }

    pub fn copy_done(&mut self) {
        self.message(b'c', |_| {});
    }
}

/// The format of column `index`: text (0) or binary (1).
pub fn format_of(formats: &[i16], index: usize) -> i16 {
    match formats {
        [] => 0,
        [all] => *all,
        each => each.get(index).copied().unwrap_or(0),
    }
}

fn text(body: &mut Vec<u8>, text: &str) {
    // A NUL would end the text early and shift everything behind it.
    body.extend(text.bytes().filter(|byte| *byte != 0));
    body.push(0);
}
