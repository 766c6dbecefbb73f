//! New blocks of one range of time, series by series.

use std::ops::Range;
use std::sync::Arc;

use pilaster_model::Columns;

use crate::Error;
use crate::block::{BlockMeta, BlockSeries, BlockWriter, OrderKey, WriteOptions};
use crate::head::Timelines;
use crate::store::Store;

/// Blocks in the making, as many as it takes for none to hold more than about [`crate::StoreOptions::block_samples`].
/// What was not taken out of it with [`NewBlocks::finish`] leaves nothing behind.
pub(super) struct NewBlocks<'s> {
    store: &'s Store,
    start_ms: i64,
    level: u8,
    writer: Option<BlockWriter<'s>>,
    samples: u64,
    timelines: Timelines,
    metas: Vec<BlockMeta>,
}

impl<'s> NewBlocks<'s> {
    /// `start_ms`, where their range begins, stands in their names and says the day of their files.
    pub fn new(store: &'s Store, start_ms: i64, level: u8) -> NewBlocks<'s> {
        NewBlocks {
            store,
            start_ms,
            level,
            writer: None,
            samples: 0,
            timelines: Timelines::default(),
            metas: Vec::new(),
        }
    }

    /// Adds a series, in the order of keys, of which `key` is its own.
    ///
    /// # Errors
    /// It is refused, or cannot be written.
    pub fn push(&mut self, key: Arc<OrderKey>, mut series: BlockSeries) -> Result<(), Error> {
        series.timestamps = self.timelines.share_arc(series.timestamps);
        self.put(key, series)
    }

    /// Adds the samples at `places` as [`NewBlocks::push`] does.
    ///
    /// # Errors
    /// As [`NewBlocks::push`].
    pub fn push_columns(&mut self, key: OrderKey, columns: &Columns, places: Range<usize>) -> Result<(), Error> {
        let series = BlockSeries {
            labels: key.labels().clone(),
            timestamps: self.timelines.share(&columns.timestamps[places.clone()]),
            values: columns.values[places.clone()].to_vec(),
            histograms: columns.histograms_in(places.clone()),
            starts_ms: (!columns.starts_ms.is_empty()).then(|| columns.starts_ms[places].to_vec()),
        };
        self.put(Arc::new(key), series)
    }

    fn put(&mut self, key: Arc<OrderKey>, series: BlockSeries) -> Result<(), Error> {
        let store = self.store;
        let dir = store.home.writing_dir();
        if self.samples >= store.options.block_samples {
            self.end_block()?;
        }
        if self.writer.is_none() {
            let name = format!("{}-{}-{:016x}", self.start_ms, self.level, store.env.random.next_u64());
            let options = WriteOptions { promoted_labels: store.options.promoted_labels.clone() };
            let writer = BlockWriter::create(&*store.env.files, dir, &name, self.level, self.start_ms, &options);
            self.writer = Some(writer.map_err(Error::block(dir))?);
        }
        let Some(writer) = &mut self.writer else { unreachable!("there is one now") };
        self.samples += series.timestamps.len() as u64;
        writer.push_keyed(key, series).map_err(Error::block(dir))
    }

    fn end_block(&mut self) -> Result<(), Error> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        let home = &self.store.home;
        let meta = writer.finish().map_err(Error::block(home.writing_dir()))?;
        let brought = home.bring(&meta);
        self.metas.push(meta);
        self.timelines = Timelines::default();
        self.samples = 0;
        brought
    }

    /// The blocks, where they belong and durable, and not live yet. None where there was no series.
    ///
    /// # Errors
    /// As [`NewBlocks::push`].
    pub fn finish(mut self) -> Result<Vec<BlockMeta>, Error> {
        self.end_block()?;
        Ok(std::mem::take(&mut self.metas))
    }
}

impl Drop for NewBlocks<'_> {
    fn drop(&mut self) {
        self.metas.iter().for_each(|meta| self.store.remove_files(meta));
    }
}
