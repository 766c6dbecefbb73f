//! Objects: whole byte strings under names, as S3 and its kin keep them.
//!
//! An object appears whole or not at all, lasts from the moment a put is answered, and can be replaced under the
//! condition that nobody else has replaced it meanwhile. Calls block; those that go over a network wait for so long as
//! their retries take.

mod cloud;
mod counted;
mod files;
pub mod sim;

use std::fmt::Debug;
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// The contents of objects.
pub use bytes::Bytes;
pub use counted::{Counted, RequestCounts};

use super::Files;

/// What went wrong with an object.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// There is no object of this name.
    #[error("there is no object {name:?} in {place}")]
    NotFound { place: String, name: String },
    /// The condition of a put does not hold: the object is there, or is another one.
    #[error("object {name:?} in {place} was written by somebody else")]
    Conflict { place: String, name: String },
    /// No answer, or a refusal. A put or removal may have happened all the same; the call may succeed later.
    #[error("could not {action} object {name:?} in {place}")]
    Unavailable {
        action: &'static str,
        place: String,
        name: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl From<ObjectError> for io::Error {
    fn from(error: ObjectError) -> io::Error {
        let kind = match &error {
            ObjectError::NotFound { .. } => io::ErrorKind::NotFound,
            ObjectError::Conflict { .. } => io::ErrorKind::AlreadyExists,
            ObjectError::Unavailable { .. } => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

/// Which of the contents that an object has had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    pub etag: Option<String>,
    pub generation: Option<String>,
}

/// Under which condition to put.
#[derive(Debug, Clone, Copy)]
pub enum Put<'a> {
    Always,
    /// There is no such object.
    Absent,
    /// The object is still this one.
    Unchanged(&'a Version),
}

/// An object in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub name: String,
    pub bytes: u64,
}

/// Objects under one prefix of a store; names are relative to it, with `/` between their parts.
pub trait Objects: Send + Sync + Debug {
    /// The URL of the prefix, without anything secret.
    fn place(&self) -> &str;

    /// The whole object and its version; `None` where it still is the version `known`.
    fn get(&self, name: &str, known: Option<&Version>) -> Result<Option<(Bytes, Version)>, ObjectError>;

    /// The bytes of `ranges`, each by a request of its own, several at the same time. A range that the object does not
    /// have in full is an error.
    fn get_ranges(&self, name: &str, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, ObjectError>;

    /// Makes `bytes` the object, durably, and tells its version.
    fn put(&self, name: &str, bytes: Bytes, condition: Put<'_>) -> Result<Version, ObjectError>;

    /// All objects whose names begin with `folder` and a `/`, ascending by name.
    fn list(&self, folder: &str) -> Result<Vec<Listed>, ObjectError>;

    /// Removes objects; those that are not there are no error.
    fn remove(&self, names: &[String]) -> Result<(), ObjectError>;
}

/// Opens the prefix that `url` names: `s3://bucket/prefix`, `gs://…`, `az://…`, `file:///directory`, `memory:///`, which
/// is empty and gone with the process. `options` are those of the `object_store` crate: `region`, `endpoint`,
/// `access_key_id`, `allow_http` and so on; of two that mean the same the later one counts. Nothing is asked of the store
/// yet.
///
/// # Errors
/// What is wrong with URL or options, in a sentence that shows no value of an option.
pub fn open_url(url: &str, options: &[(String, String)], files: Arc<dyn Files>) -> Result<Arc<dyn Objects>, String> {
    let parsed = url::Url::parse(url).map_err(|error| format!("{url:?} is no URL: {error}"))?;
    if parsed.scheme() == "file" {
        if let Some((key, _)) = options.first() {
            return Err(format!("a file:// URL takes no option {key:?}"));
        }
        let dir = parsed.to_file_path().map_err(|()| format!("{url:?} names no absolute path of a directory"))?;
        return Ok(Arc::new(files::FileObjects::new(files, dir)));
    }
    Ok(Arc::new(cloud::Cloud::open(&parsed, options)?))
}

/// Those of `variables`, an environment, that are options of the kind of store that `url` names: `AWS_…` for S3, `GOOGLE_…`
/// and `AZURE_…` for the others; ascending by name.
pub fn credentials(url: &str, variables: impl Iterator<Item = (String, String)>) -> Vec<(String, String)> {
    let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
    let mut options: Vec<(String, String)> = variables
        .filter(|(name, _)| cloud::is_option(scheme, name))
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .collect();
    options.sort_unstable();
    options
}

#[cfg(test)]
mod tests;
