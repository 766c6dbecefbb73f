//! Options of COPY, in their new and their old syntax.

use datafusion::sql::sqlparser::ast::{CopyLegacyCsvOption, CopyLegacyOption, CopyOption};

use super::unsupported;
use crate::error::{SqlError, sqlstate};

/// How COPY writes rows. Source: PostgreSQL 16, COPY.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyOptions {
    pub format: CopyFormat,
    pub delimiter: u8,
    pub null: String,
    pub header: bool,
    pub quote: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyFormat {
    Text,
    Csv,
    Binary,
}

/// COPY's options in the old syntax (`WITH CSV HEADER`, which psql users still type) under their new names.
pub(super) fn modern_options(
    mut options: Vec<CopyOption>,
    legacy: Vec<CopyLegacyOption>,
) -> Result<Vec<CopyOption>, SqlError> {
    for option in legacy {
        match option {
            CopyLegacyOption::Binary => options.push(CopyOption::Format("binary".into())),
            CopyLegacyOption::Delimiter(character) => options.push(CopyOption::Delimiter(character)),
            CopyLegacyOption::Null(text) => options.push(CopyOption::Null(text)),
            CopyLegacyOption::Header => options.push(CopyOption::Header(true)),
            CopyLegacyOption::Csv(details) => {
                options.push(CopyOption::Format("csv".into()));
                for detail in details {
                    options.push(match detail {
                        CopyLegacyCsvOption::Header => CopyOption::Header(true),
                        CopyLegacyCsvOption::Quote(character) => CopyOption::Quote(character),
                        CopyLegacyCsvOption::Escape(character) => CopyOption::Escape(character),
                        CopyLegacyCsvOption::ForceQuote(columns) => CopyOption::ForceQuote(columns),
                        CopyLegacyCsvOption::ForceNotNull(columns) => CopyOption::ForceNotNull(columns),
                    });
                }
            }
            other => return Err(unsupported(&format!("COPY option {other}"))),
        }
    }
    Ok(options)
}

pub(super) fn copy_options(options: &[CopyOption]) -> Result<CopyOptions, SqlError> {
    let mut format = CopyFormat::Text;
    for option in options {
        if let CopyOption::Format(name) = option {
            format = match name.value.to_lowercase().as_str() {
                "text" => CopyFormat::Text,
                "csv" => CopyFormat::Csv,
                "binary" => CopyFormat::Binary,
                other => {
                    return Err(SqlError::new(
                        sqlstate::INVALID_PARAMETER,
                        format!("COPY format \"{other}\" not recognized"),
                    ));
                }
            };
        }
    }
    let is_csv = format == CopyFormat::Csv;
    let mut copy = CopyOptions {
        format,
        delimiter: if is_csv { b',' } else { b'\t' },
        null: if is_csv { String::new() } else { "\\N".to_owned() },
        header: false,
        quote: b'"',
    };
    let byte = |character: char, what: &str| {
        u8::try_from(character).ok().filter(|byte| byte.is_ascii() && !matches!(byte, b'\n' | b'\r')).ok_or_else(|| {
            SqlError::new(sqlstate::INVALID_PARAMETER, format!("COPY {what} must be a single one-byte character"))
        })
    };
    for option in options {
        match option {
            CopyOption::Format(_) => {}
            CopyOption::Delimiter(character) => copy.delimiter = byte(*character, "delimiter")?,
            CopyOption::Null(text) => copy.null = text.clone(),
            CopyOption::Header(header) => copy.header = *header,
            CopyOption::Quote(character) => copy.quote = byte(*character, "quote")?,
            CopyOption::Encoding(name) if name.to_lowercase().replace('-', "") == "utf8" => {}
            other => return Err(unsupported(&format!("COPY option {other}"))),
        }
    }
    Ok(copy)
}
