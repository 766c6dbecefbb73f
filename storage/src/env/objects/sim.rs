//! The simulated twin of an object store.
//!
//! What was put lasts, whatever becomes of the machines that put it. What can go wrong is the way there and back: a call
//! that does nothing, one that does its work and is not heard of, one that does it later, and a store that is gone for
//! a while. The power of the machine that calls can go before the call or right after it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::super::sim::Sim;
use super::{Listed, ObjectError, Objects, Put, Version};

/// A simulated object store. Clones share it, and so do the machines that it is seen from.
#[derive(Debug, Clone, Default)]
pub struct Bucket(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<String, (Bytes, u64)>,
    /// Contents so far.
    versions: u64,
    /// Calls so far, of any kind.
    calls: u64,
    fault: Option<BucketFault>,
    careless: bool,
    /// Puts on their way, and the call before which they arrive.
    late: Vec<(u64, String, Bytes, Condition)>,
}

/// What goes wrong, and at which call (counted from 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketFault {
    pub at_call: u64,
    pub kind: BucketFaultKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BucketFaultKind {
    /// The call does nothing and fails.
    Error,
    /// The call does its work and fails all the same.
    AnswerLost,
    /// The call fails; where it is a put, it happens so many calls later, if its condition then holds.
    Late { calls: u64 },
    /// This call and all that follow fail, until another fault is set or none.
    Outage,
}

#[derive(Debug, Clone, Copy)]
enum Condition {
    Always,
    Absent,
    Unchanged(u64),
}

impl Bucket {
    pub fn new() -> Bucket {
        Bucket::default()
    }

    /// The part below `prefix`, as programs on `machine` see it.
    pub fn seen_from(&self, machine: &Sim, prefix: &str) -> Arc<dyn Objects> {
        let place = format!("sim://bucket/{prefix}");
        Arc::new(BucketView { bucket: self.clone(), machine: machine.clone(), prefix: prefix.to_owned(), place })
    }

    /// Plans a fault; the count goes on from [`Bucket::calls`].
    pub fn set_fault(&self, fault: Option<BucketFault>) {
        self.0.lock().fault = fault;
    }

    /// The planned fault.
    pub fn fault(&self) -> Option<BucketFault> {
        self.0.lock().fault
    }

    /// Makes a store of it that does not look at the conditions of puts, to show that they matter.
    pub fn set_careless(&self) {
        self.0.lock().careless = true;
    }

    /// Lets everything arrive that is on its way.
    pub fn deliver(&self) {
        self.0.lock().deliver(u64::MAX);
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.0.lock().calls
    }

    /// Names of all objects, ascending.
    pub fn names(&self) -> Vec<String> {
        self.0.lock().objects.keys().cloned().collect()
    }

    /// Flips one bit of an object, which no store should do. Nothing where the object is shorter.
    pub fn flip_bit(&self, name: &str, byte: usize, bit: u8) {
        if let Some((content, _)) = self.0.lock().objects.get_mut(name) {
            let mut bytes = content.to_vec();
            if let Some(byte) = bytes.get_mut(byte) {
                *byte ^= 1 << (bit & 7);
            }
            *content = bytes.into();
        }
    }
}

impl State {
    /// Puts an object if `condition` holds; its version.
    fn put(&mut self, name: &str, bytes: Bytes, condition: Condition) -> Option<u64> {
        let there = self.objects.get(name).map(|(_, version)| *version);
        let holds = self.careless
            || match condition {
                Condition::Always => true,
                Condition::Absent => there.is_none(),
                Condition::Unchanged(version) => there == Some(version),
            };
        holds.then(|| {
            self.versions += 1;
            self.objects.insert(name.to_owned(), (bytes, self.versions));
            self.versions
        })
    }

    /// Lets the puts arrive that are due by the call of this number.
    fn deliver(&mut self, calls: u64) {
        let (due, late): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.late).into_iter().partition(|(at, ..)| *at <= calls);
        self.late = late;
        for (_, name, bytes, condition) in due {
            self.put(&name, bytes, condition);
        }
    }

    /// Counts a call; what goes wrong with it.
    fn call(&mut self) -> Option<BucketFaultKind> {
        self.calls += 1;
        let calls = self.calls;
        self.deliver(calls);
        let fault = self.fault?;
        let now = match fault.kind {
            BucketFaultKind::Outage => fault.at_call <= calls,
            BucketFaultKind::Error | BucketFaultKind::AnswerLost | BucketFaultKind::Late { .. } => {
                fault.at_call == calls
            }
        };
        now.then_some(fault.kind)
    }
}

/// A bucket from a machine's point of view.
#[derive(Debug)]
struct BucketView {
    bucket: Bucket,
    machine: Sim,
    prefix: String,
    place: String,
}

impl BucketView {
    fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.prefix)
    }

    /// One call: `work` on the store, unless something goes wrong before; `late` where a put may come later.
    fn call<T>(
        &self,
        action: &'static str,
        name: &str,
        late: Option<(Bytes, Condition)>,
        work: impl FnOnce(&mut State) -> Result<T, ObjectError>,
    ) -> Result<T, ObjectError> {
        let unavailable = |source: &str| ObjectError::Unavailable {
            action,
            place: self.place.clone(),
            name: name.to_owned(),
            source: source.to_owned().into(),
        };
        let on_before = !self.machine.is_off();
        let on_after = self.machine.remote_call();
        if !on_before {
            return Err(unavailable("the power is off"));
        }
        let state = &mut *self.bucket.0.lock();
        match state.call() {
            None => {}
            Some(BucketFaultKind::AnswerLost) => {
                let _ = work(state);
                return Err(unavailable("the answer was lost"));
            }
            Some(BucketFaultKind::Late { calls }) => {
                if let Some((bytes, condition)) = late {
                    let at = state.calls + calls;
                    state.late.push((at, self.name(name), bytes, condition));
                }
                return Err(unavailable("no answer in time"));
            }
            Some(BucketFaultKind::Error | BucketFaultKind::Outage) => {
                return Err(unavailable("the store cannot be reached"));
            }
        }
        match on_after {
            Ok(()) => work(state),
            // The power went during the call: before it arrived, or after.
            Err(_) if state.calls.is_multiple_of(2) => Err(unavailable("the power went")),
            Err(_) => work(state).and_then(|_| Err(unavailable("the power went"))),
        }
    }

    fn not_found(&self, name: &str) -> ObjectError {
        ObjectError::NotFound { place: self.place.clone(), name: name.to_owned() }
    }
}

fn version(number: u64) -> Version {
    Version { etag: Some(number.to_string()), generation: None }
}

impl Objects for BucketView {
    fn place(&self) -> &str {
        &self.place
    }

    fn get(&self, name: &str, known: Option<&Version>) -> Result<Option<(Bytes, Version)>, ObjectError> {
        self.call("read", name, None, |state| {
            let (bytes, number) = state.objects.get(&self.name(name)).ok_or_else(|| self.not_found(name))?;
            Ok((known != Some(&version(*number))).then(|| (bytes.clone(), version(*number))))
        })
    }

    fn get_ranges(&self, name: &str, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, ObjectError> {
        let mut all = Vec::with_capacity(ranges.len());
        // Each is a request, and each can fail.
        for range in ranges {
            all.push(self.call("read", name, None, |state| {
                let (bytes, _) = state.objects.get(&self.name(name)).ok_or_else(|| self.not_found(name))?;
                if range.end > bytes.len() as u64 {
                    return Err(self.not_found(name));
                }
                Ok(bytes.slice(range.start as usize..range.end as usize))
            })?);
        }
        Ok(all)
    }

    fn put(&self, name: &str, bytes: Bytes, condition: Put<'_>) -> Result<Version, ObjectError> {
        let condition = match condition {
            Put::Always => Condition::Always,
            Put::Absent => Condition::Absent,
            Put::Unchanged(version) => {
                Condition::Unchanged(version.etag.as_deref().and_then(|etag| etag.parse().ok()).unwrap_or(0))
            }
        };
        self.call("write", name, Some((bytes.clone(), condition)), |state| {
            let conflict = || ObjectError::Conflict { place: self.place.clone(), name: name.to_owned() };
            state.put(&self.name(name), bytes, condition).map(version).ok_or_else(conflict)
        })
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>, ObjectError> {
        self.call("list", folder, None, |state| {
            let (prefix, folder) = (format!("{}/", self.prefix), format!("{}/", self.name(folder)));
            let inside = state.objects.iter().filter(|(name, _)| name.starts_with(&folder));
            let listed = |(name, (bytes, _)): (&String, &(Bytes, u64))| Listed {
                name: name.strip_prefix(&prefix).unwrap_or(name).to_owned(),
                bytes: bytes.len() as u64,
            };
            Ok(inside.map(listed).collect())
        })
    }

    fn remove(&self, names: &[String]) -> Result<(), ObjectError> {
        for name in names {
            self.call("remove", name, None, |state| {
                state.objects.remove(&self.name(name));
                Ok(())
            })?;
        }
        Ok(())
    }
}
