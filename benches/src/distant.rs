//! An object store that is some way off.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use pilaster_storage::env::objects::{Bytes, Listed, ObjectError, Objects, Put, Version};

/// Objects every call for which takes `latency` longer; ranges that are asked for together take it once.
#[derive(Debug)]
pub struct Distant {
    pub objects: Arc<dyn Objects>,
    pub latency: Duration,
}

impl Distant {
    fn travel(&self) {
        std::thread::sleep(self.latency);
    }
}

impl Objects for Distant {
    fn place(&self) -> &str {
        self.objects.place()
    }

    fn get(&self, name: &str, known: Option<&Version>) -> Result<Option<(Bytes, Version)>, ObjectError> {
        self.travel();
        self.objects.get(name, known)
    }

    fn get_ranges(&self, name: &str, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, ObjectError> {
        self.travel();
        self.objects.get_ranges(name, ranges)
    }

    fn put(&self, name: &str, bytes: Bytes, condition: Put<'_>) -> Result<Version, ObjectError> {
        self.travel();
        self.objects.put(name, bytes, condition)
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>, ObjectError> {
        self.travel();
        self.objects.list(folder)
    }

    fn remove(&self, names: &[String]) -> Result<(), ObjectError> {
        self.travel();
        self.objects.remove(names)
    }
}
