//! Object stores of the clouds, through the `object_store` crate.

use std::future::Future;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, RetryConfig, UpdateVersion,
    WriteMultipart,
};
use tokio::runtime::{Builder, Handle, Runtime, RuntimeFlavor};
use url::Url;

use super::{Listed, ObjectError, Objects, Put, Version};

/// Requests for one call at the same time.
const AT_ONCE: usize = 8;
/// An object that is longer is put in parts, each with its own timeout and its own retries.
const WHOLE_BYTES: usize = 16 << 20;
const PART_BYTES: usize = 8 << 20;

/// A query must not wait for ever for a store that is down; a flush comes again.
fn retries() -> RetryConfig {
    RetryConfig { max_retries: 4, retry_timeout: Duration::from_secs(30), ..RetryConfig::default() }
}

/// A prefix of a store. Requests run on threads of their own, so that whoever waits for one, be it a worker of another
/// runtime, does not keep it from being answered.
#[derive(Debug)]
pub struct Cloud {
    place: String,
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    /// Present until dropped.
    runtime: Option<Runtime>,
}

impl Drop for Cloud {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waiting for its threads is forbidden where this may be dropped.
            runtime.shutdown_background();
        }
    }
}

impl Cloud {
    pub fn open(url: &Url, options: &[(String, String)]) -> Result<Cloud, String> {
        let store = store_of(url, options)?;
        let prefix = Path::from_url_path(url.path()).map_err(|error| format!("{:?}: {error}", url.path()))?;
        let mut place = url.clone();
        // A password, if someone has put one there, is nothing for messages.
        let _ = place.set_password(None);
        place.set_query(None);
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("objects")
            .enable_all()
            .build()
            .map_err(|error| format!("could not start threads for requests: {error}"))?;
        Ok(Cloud { place: place.to_string(), store, prefix, runtime: Some(runtime) })
    }

    fn path(&self, name: &str) -> Path {
        name.split('/').filter(|part| !part.is_empty()).fold(self.prefix.clone(), |path, part| path.join(part))
    }

    /// Runs `request` on the threads for requests and waits for it.
    fn wait<T: Send + 'static>(
        &self,
        action: &'static str,
        name: &str,
        request: impl Future<Output = object_store::Result<T>> + Send + 'static,
    ) -> Result<T, ObjectError> {
        let place = || self.place.clone();
        let unavailable = |source| ObjectError::Unavailable { action, place: place(), name: name.to_owned(), source };
        let Some(runtime) = &self.runtime else { unreachable!("the runtime is there until the drop") };
        let (send, receive) = std::sync::mpsc::sync_channel(1);
        runtime.spawn(async move {
            // Nobody listens any more: then nobody wants the answer.
            let _ = send.send(request.await);
        });
        let wait = move || receive.recv();
        let answer = match Handle::try_current() {
            // Other tasks of this worker go on elsewhere meanwhile.
            Ok(handle) if handle.runtime_flavor() == RuntimeFlavor::MultiThread => tokio::task::block_in_place(wait),
            Ok(_) | Err(_) => wait(),
        };
        match answer {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(object_store::Error::NotFound { .. })) => {
                Err(ObjectError::NotFound { place: place(), name: name.to_owned() })
            }
            Ok(Err(object_store::Error::Precondition { .. } | object_store::Error::AlreadyExists { .. })) => {
                Err(ObjectError::Conflict { place: place(), name: name.to_owned() })
            }
            Ok(Err(error)) => Err(unavailable(error.into())),
            Err(_) => Err(unavailable("the request was given up".into())),
        }
    }
}

impl Objects for Cloud {
    fn place(&self) -> &str {
        &self.place
    }

    fn get(&self, name: &str, known: Option<&Version>) -> Result<Option<(Bytes, Version)>, ObjectError> {
        let (store, path) = (self.store.clone(), self.path(name));
        let options = GetOptions { if_none_match: known.and_then(|known| known.etag.clone()), ..GetOptions::default() };
        self.wait("read", name, async move {
            let got = match store.get_opts(&path, options).await {
                Err(object_store::Error::NotModified { .. }) => return Ok(None),
                other => other?,
            };
            let version = Version { etag: got.meta.e_tag.clone(), generation: got.meta.version.clone() };
            Ok(Some((got.bytes().await?, version)))
        })
    }

    fn get_ranges(&self, name: &str, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, ObjectError> {
        let (store, path, ranges) = (self.store.clone(), self.path(name), ranges.to_vec());
        self.wait("read", name, async move {
            let get = |range: Range<u64>| {
                let (store, path) = (store.clone(), path.clone());
                async move {
                    let bytes = store.get_range(&path, range.clone()).await?;
                    let short = bytes.len() as u64 != range.end - range.start;
                    let source = || format!("{} bytes came of {range:?}", bytes.len()).into();
                    if short {
                        Err(object_store::Error::Generic { store: "range", source: source() })
                    } else {
                        Ok(bytes)
                    }
                }
            };
            futures::stream::iter(ranges).map(get).buffered(AT_ONCE).try_collect().await
        })
    }

    fn put(&self, name: &str, bytes: Bytes, condition: Put<'_>) -> Result<Version, ObjectError> {
        let (store, path) = (self.store.clone(), self.path(name));
        let mode = match condition {
            Put::Always if bytes.len() > WHOLE_BYTES => {
                return self.wait("write", name, async move {
                    let upload = store.put_multipart(&path).await?;
                    let mut writer = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
                    for start in (0..bytes.len()).step_by(PART_BYTES) {
                        writer.wait_for_capacity(AT_ONCE / 2).await?;
                        writer.put(bytes.slice(start..bytes.len().min(start + PART_BYTES)));
                    }
                    let done = writer.finish().await?;
                    Ok(Version { etag: done.e_tag, generation: done.version })
                });
            }
            Put::Always => PutMode::Overwrite,
            Put::Absent => PutMode::Create,
            Put::Unchanged(version) => {
                PutMode::Update(UpdateVersion { e_tag: version.etag.clone(), version: version.generation.clone() })
            }
        };
        self.wait("write", name, async move {
            let options = PutOptions { mode, ..PutOptions::default() };
            let done = store.put_opts(&path, PutPayload::from_bytes(bytes), options).await?;
            Ok(Version { etag: done.e_tag, generation: done.version })
        })
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>, ObjectError> {
        let (store, path, prefix) = (self.store.clone(), self.path(folder), self.prefix.clone());
        let mut list = self.wait("list", folder, async move {
            let listed = |meta: object_store::ObjectMeta| {
                let parts: Vec<_> = meta.location.prefix_match(&prefix)?.map(|part| part.as_ref().to_owned()).collect();
                Some(Listed { name: parts.join("/"), bytes: meta.size })
            };
            store
                .list(Some(&path))
                .try_filter_map(|meta| std::future::ready(Ok(listed(meta))))
                .try_collect::<Vec<_>>()
                .await
        })?;
        list.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(list)
    }

    fn remove(&self, names: &[String]) -> Result<(), ObjectError> {
        let store = self.store.clone();
        let paths: Vec<Path> = names.iter().map(|name| self.path(name)).collect();
        self.wait("remove", names.first().map_or("", |name| name), async move {
            let remove = |path: Path| {
                let store = store.clone();
                async move {
                    // One by one: not every server that calls itself S3 knows removals in bulk.
                    match store.delete(&path).await {
                        Err(object_store::Error::NotFound { .. }) => Ok(()),
                        other => other,
                    }
                }
            };
            futures::stream::iter(paths).map(remove).buffered(AT_ONCE).try_collect::<Vec<()>>().await.map(drop)
        })
    }
}

fn store_of(url: &Url, options: &[(String, String)]) -> Result<Arc<dyn ObjectStore>, String> {
    let text = url.to_string();
    Ok(match url.scheme() {
        "s3" | "s3a" => {
            let mut builder = AmazonS3Builder::new().with_url(text).with_retry(retries());
            for (key, value) in options {
                builder = builder.with_config(known::<AmazonS3ConfigKey>(key, "an S3")?, value);
            }
            Arc::new(builder.build().map_err(|error| error.to_string())?)
        }
        "gs" => {
            let mut builder = GoogleCloudStorageBuilder::new().with_url(text).with_retry(retries());
            for (key, value) in options {
                builder = builder.with_config(known::<GoogleConfigKey>(key, "a Google Cloud Storage")?, value);
            }
            Arc::new(builder.build().map_err(|error| error.to_string())?)
        }
        "az" | "azure" | "adl" | "abfs" | "abfss" => {
            let mut builder = MicrosoftAzureBuilder::new().with_url(text).with_retry(retries());
            for (key, value) in options {
                builder = builder.with_config(known::<AzureConfigKey>(key, "an Azure Blob Storage")?, value);
            }
            Arc::new(builder.build().map_err(|error| error.to_string())?)
        }
        "memory" => match options.first() {
            Some((key, _)) => return Err(format!("a memory:// URL takes no option {key:?}")),
            None => Arc::new(InMemory::new()),
        },
        other => return Err(format!("{other}:// is none of s3://, gs://, az://, file:// and memory://")),
    })
}

/// Whether a variable of the environment is an option of this kind of store.
pub fn is_option(scheme: &str, variable: &str) -> bool {
    let name = variable.to_ascii_lowercase();
    match scheme {
        "s3" | "s3a" => variable.starts_with("AWS_") && name.parse::<AmazonS3ConfigKey>().is_ok(),
        "gs" => variable.starts_with("GOOGLE_") && name.parse::<GoogleConfigKey>().is_ok(),
        "az" | "azure" | "adl" | "abfs" | "abfss" => {
            variable.starts_with("AZURE_") && name.parse::<AzureConfigKey>().is_ok()
        }
        _ => false,
    }
}

/// Unknown options are mistakes: a misspelt `endpoint` would send samples elsewhere.
fn known<K: FromStr>(key: &str, what: &str) -> Result<K, String> {
    key.to_ascii_lowercase().parse().map_err(|_| format!("{what} URL takes no option {key:?}"))
}
