//! Just enough of the protobuf wire format to read messages (remote write, remote read, exposition) without copying.
//!
//! Source: protobuf encoding specification. Unknown fields are skipped; groups are refused.

/// The bytes are not the message they claim to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("unexpected EOF")]
    UnexpectedEof,
    #[error("integer overflow")]
    VarintOverflow,
    #[error("wrong wireType = {wire_type} for field {field}")]
    WrongWireType { field: u32, wire_type: u8 },
    #[error("illegal tag {0}")]
    IllegalTag(u64),
    #[error("string field contains invalid UTF-8")]
    InvalidUtf8,
    #[error("symbol reference {reference} out of range of {symbols} symbols")]
    SymbolOutOfRange { reference: u64, symbols: usize },
    #[error("odd number of label references")]
    OddLabelRefs,
    #[error("the first symbol must be the empty string")]
    FirstSymbolNotEmpty,
    #[error("histogram spans need {spans} buckets, have {buckets} buckets")]
    SpansAndBuckets { spans: u64, buckets: usize },
}

/// One field of a message.
#[derive(Debug, Clone, Copy)]
pub struct Field<'a> {
    pub number: u32,
    pub value: FieldValue<'a>,
}

#[derive(Debug, Clone, Copy)]
pub enum FieldValue<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    /// No field of these messages has four fixed bytes; unknown ones are skipped.
    Fixed32,
}

impl<'a> Field<'a> {
    fn wrong<T>(&self) -> Result<T, DecodeError> {
        let wire_type = match self.value {
            FieldValue::Varint(_) => 0,
            FieldValue::Fixed64(_) => 1,
            FieldValue::Bytes(_) => 2,
            FieldValue::Fixed32 => 5,
        };
        Err(DecodeError::WrongWireType { field: self.number, wire_type })
    }

    pub fn bytes(&self) -> Result<&'a [u8], DecodeError> {
        match self.value {
            FieldValue::Bytes(bytes) => Ok(bytes),
            FieldValue::Varint(_) | FieldValue::Fixed64(_) | FieldValue::Fixed32 => self.wrong(),
        }
    }

    pub fn text(&self) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| DecodeError::InvalidUtf8)
    }

    /// A label: a message of its name (1) and its value (2).
    pub fn label(&self) -> Result<(&'a str, &'a str), DecodeError> {
        let (mut name, mut value) = ("", "");
        let mut message = Message::new(self.bytes()?);
        while let Some(field) = message.next_field()? {
            match field.number {
                1 => name = field.text()?,
                2 => value = field.text()?,
                _ => {}
            }
        }
        Ok((name, value))
    }

    pub fn varint(&self) -> Result<u64, DecodeError> {
        match self.value {
            FieldValue::Varint(value) => Ok(value),
            FieldValue::Bytes(_) | FieldValue::Fixed64(_) | FieldValue::Fixed32 => self.wrong(),
        }
    }

    /// A double, bit for bit.
    pub fn double(&self) -> Result<f64, DecodeError> {
        match self.value {
            FieldValue::Fixed64(bits) => Ok(f64::from_bits(bits)),
            FieldValue::Bytes(_) | FieldValue::Varint(_) | FieldValue::Fixed32 => self.wrong(),
        }
    }

    /// Appends the numbers of a repeated varint field, packed or not.
    pub fn varints(&self, out: &mut Vec<u64>) -> Result<(), DecodeError> {
        match self.value {
            FieldValue::Varint(value) => out.push(value),
            FieldValue::Bytes(bytes) => {
                let mut reader = Message::new(bytes);
                while !reader.rest.is_empty() {
                    out.push(reader.read_varint()?);
                }
            }
            FieldValue::Fixed64(_) | FieldValue::Fixed32 => return self.wrong(),
        }
        Ok(())
    }

    /// Appends the numbers of a repeated double field, packed or not.
    pub fn doubles(&self, out: &mut Vec<f64>) -> Result<(), DecodeError> {
        match self.value {
            FieldValue::Fixed64(bits) => out.push(f64::from_bits(bits)),
            FieldValue::Bytes(bytes) => {
                let (numbers, rest) = bytes.as_chunks::<8>();
                if !rest.is_empty() {
                    return Err(DecodeError::UnexpectedEof);
                }
                out.extend(numbers.iter().map(|&number| f64::from_le_bytes(number)));
            }
            FieldValue::Varint(_) | FieldValue::Fixed32 => return self.wrong(),
        }
        Ok(())
    }
}

/// Reads the fields of one message in order.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    rest: &'a [u8],
}

impl<'a> Message<'a> {
    pub fn new(bytes: &'a [u8]) -> Message<'a> {
        Message { rest: bytes }
    }

    /// The next field; `None` at the end.
    pub fn next_field(&mut self) -> Result<Option<Field<'a>>, DecodeError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.read_varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| DecodeError::IllegalTag(tag))?;
        if number == 0 {
            return Err(DecodeError::IllegalTag(tag));
        }
        let value = match tag & 7 {
            0 => FieldValue::Varint(self.read_varint()?),
            1 => FieldValue::Fixed64(u64::from_le_bytes(self.take_array()?)),
            2 => {
                let len = usize::try_from(self.read_varint()?).map_err(|_| DecodeError::UnexpectedEof)?;
                FieldValue::Bytes(self.take(len)?)
            }
            5 => {
                self.take_array::<4>()?;
                FieldValue::Fixed32
            }
            other => return Err(DecodeError::WrongWireType { field: number, wire_type: other as u8 }),
        };
        Ok(Some(Field { number, value }))
    }

    fn read_varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for (index, &byte) in self.rest.iter().enumerate() {
            if index == 10 || (index == 9 && byte > 1) {
                return Err(DecodeError::VarintOverflow);
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[index + 1..];
                return Ok(value);
            }
        }
        Err(DecodeError::UnexpectedEof)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (head, tail) = self.rest.split_at_checked(len).ok_or(DecodeError::UnexpectedEof)?;
        self.rest = tail;
        Ok(head)
    }

    fn take_array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, tail) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::UnexpectedEof)?;
        self.rest = tail;
        Ok(*head)
    }
}
