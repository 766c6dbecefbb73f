//! The object store that blocks go to, out of flags, configuration and environment.

use std::sync::Arc;

use pilaster_storage::ObjectOptions;
use pilaster_storage::env::Env;
use pilaster_storage::env::objects::{Objects, credentials, open_url};

use crate::config::{BlockPlace, BlocksConfig};
use crate::flags::Flags;

/// What the server does with its blocks; `None` where they stay in the data directory. The file goes before the flags,
/// and its options before those that the environment has for the same kind of store (`AWS_…`, `GOOGLE_…`, `AZURE_…`).
///
/// # Errors
/// A URL or an option that no store has; values are not shown.
pub fn object_options(flags: &Flags, config: &BlocksConfig, env: &Env) -> Result<Option<ObjectOptions>, String> {
    let flag_url = flags.get("storage.blocks.url");
    let from_flag = || BlockPlace { url: flag_url.to_owned(), options: Vec::new() };
    let place = match &config.place {
        Some(place) => place.clone(),
        None if flag_url.is_empty() => return Ok(None),
        None => from_flag(),
    };
    let defaults = ObjectOptions::new(open(&place, env)?);
    let flag_path = Some(flags.get("storage.blocks.cache.path")).filter(|path| !path.is_empty());
    Ok(Some(ObjectOptions {
        read_from: config.read_from.iter().map(|place| open(place, env)).collect::<Result<_, _>>()?,
        cache_dir: config.cache_path.clone().or(flag_path.map(Into::into)),
        cache_bytes: config.cache_bytes.unwrap_or_else(|| flags.bytes("storage.blocks.cache.max-bytes")),
        refresh_ms: config.refresh_ms.unwrap_or(defaults.refresh_ms),
        take_over: config.take_over || flags.on("storage.blocks.take-over"),
        ..defaults
    }))
}

/// The object store at a place.
///
/// # Errors
/// As [`object_options`].
pub fn open(place: &BlockPlace, env: &Env) -> Result<Arc<dyn Objects>, String> {
    let mut options = credentials(&place.url, std::env::vars());
    options.extend(place.options.iter().cloned());
    open_url(&place.url, &options, env.files.clone())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;
    use crate::flags::{Command, parse};

    fn options(words: &[&str], text: &str) -> Result<Option<ObjectOptions>, String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let Ok(Command::Serve(flags)) = parse(&words) else { panic!("{words:?}") };
        let config = Config::parse(text, Path::new("/etc/p.yml")).unwrap();
        object_options(&flags, &config.blocks, &Env::real())
    }

    #[test]
    fn the_file_goes_before_the_flags() {
        assert!(options(&[], "").unwrap().is_none());
        let flags = ["--storage.blocks.url=memory:///a", "--storage.blocks.cache.max-bytes=1MB"];
        let by_flags = options(&flags, "").unwrap().unwrap();
        assert_eq!((by_flags.objects.place(), by_flags.cache_bytes), ("memory:///a", 1 << 20));
        assert_eq!((by_flags.cache_dir, by_flags.take_over), (None, false));
        let text = "storage:\n  blocks:\n    url: s3://bucket/x\n    options: {region: eu-west-1, allow_http: true}\n    \
                    cache: {path: kept, max_bytes: 2GB}\n    read_from: [{url: \"file:///srv/other\"}]\n    \
                    refresh_interval: 5m\n    take_over: true\n";
        let both = options(&flags, text).unwrap().unwrap();
        assert_eq!((both.objects.place(), both.cache_bytes), ("s3://bucket/x", 2 << 30));
        assert_eq!((both.cache_dir.unwrap().as_path(), both.take_over), (Path::new("/etc/kept"), true));
        assert_eq!((both.refresh_ms, both.read_from[0].place()), (300_000, "file:///srv/other"));
    }

    #[test]
    fn mistakes_are_told_without_secrets() {
        let text = "storage: {blocks: {url: \"s3://b/x\", options: {secret_acess_key: hush}}}\n";
        let error = options(&[], text).unwrap_err();
        assert!(error.contains("\"secret_acess_key\"") && !error.contains("hush"), "{error}");
        assert!(options(&["--storage.blocks.url=nowhere"], "").is_err());
    }
}
