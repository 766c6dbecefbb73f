//! Where blocks go: `storage.blocks`, which Prometheus does not have.

use std::path::{Path, PathBuf};

use pilaster_ingest::config::yaml::Node;
use pilaster_ingest::config::{ByteSize, PromDuration, join_directory};

use super::{given, items};

/// A prefix of an object store: URL and options, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockPlace {
    pub url: String,
    pub options: Vec<(String, String)>,
}

/// The section `storage.blocks`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlocksConfig {
    /// Absent where blocks stay in the data directory.
    pub place: Option<BlockPlace>,
    pub cache_path: Option<PathBuf>,
    pub cache_bytes: Option<u64>,
    /// Prefixes of other servers.
    pub read_from: Vec<BlockPlace>,
    pub refresh_ms: Option<i64>,
    pub take_over: bool,
}

impl BlocksConfig {
    /// Reads the section; paths are relative to `directory`.
    ///
    /// # Errors
    /// What is missing, with its line.
    pub(super) fn read(node: Option<&Node>, directory: &Path) -> Result<BlocksConfig, String> {
        let Some(node) = node else { return Ok(BlocksConfig::default()) };
        let cache = given(node, "cache");
        let place = given(node, "url").map(|_| place(node)).transpose()?;
        let read_from = items(node, "read_from").iter().map(place_in_list).collect::<Result<Vec<_>, _>>()?;
        if place.is_none() && (!read_from.is_empty() || given(node, "options").is_some()) {
            return Err(format!("'storage.blocks' needs 'url' (line {})", node.line));
        }
        Ok(BlocksConfig {
            place,
            cache_path: cache
                .and_then(|cache| text_of(cache, "path"))
                .map(|path| PathBuf::from(join_directory(directory, path))),
            cache_bytes: cache
                .and_then(|cache| text_of(cache, "max_bytes"))
                .and_then(|text| ByteSize::parse(text).ok())
                .map(|size| size.0),
            read_from,
            refresh_ms: text_of(node, "refresh_interval")
                .and_then(|text| PromDuration::parse(text).ok())
                .map(PromDuration::ms),
            take_over: text_of(node, "take_over") == Some("true"),
        })
    }
}

fn text_of<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    given(node, key).and_then(Node::text)
}

fn place_in_list(node: &Node) -> Result<BlockPlace, String> {
    match given(node, "url") {
        Some(_) => place(node),
        None => Err(format!("an entry of 'storage.blocks.read_from' needs 'url' (line {})", node.line)),
    }
}

fn place(node: &Node) -> Result<BlockPlace, String> {
    let text = |node: &Node| node.text().unwrap_or_default().to_owned();
    let options = given(node, "options").map_or(&[][..], Node::entries);
    Ok(BlockPlace {
        url: given(node, "url").map(text).unwrap_or_default(),
        options: options.iter().map(|(key, value)| (text(key), text(value))).collect(),
    })
}

/// Whether the value of an option may be shown. What is not known to be harmless is a secret.
pub(super) fn may_be_shown(option: &str) -> bool {
    const HARMLESS: [&str; 22] = [
        "account_name",
        "allow_http",
        "allow_invalid_certificates",
        "authority_id",
        "bucket",
        "bucket_name",
        "client_id",
        "connect_timeout",
        "container_name",
        "default_region",
        "endpoint",
        "endpoint_url",
        "imdsv1_fallback",
        "metadata_endpoint",
        "region",
        "service_account",
        "skip_signature",
        "tenant_id",
        "timeout",
        "unsigned_payload",
        "use_emulator",
        "virtual_hosted_style_request",
    ];
    let option = option.to_ascii_lowercase();
    let prefixes = ["aws_", "google_", "azure_storage_", "azure_"];
    let bare = prefixes.iter().find_map(|prefix| option.strip_prefix(prefix)).unwrap_or(&option);
    HARMLESS.contains(&bare)
}
