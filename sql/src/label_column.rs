//! String columns where one value stands for a whole run of rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringViewArray, make_view};
use arrow::buffer::{Buffer, NullBuffer, ScalarBuffer};

/// Collects runs of one text each into a view array: a run costs one copy of its text and one 16-byte view per row.
#[derive(Debug, Default)]
pub struct LabelColumn {
    views: Vec<u128>,
    valid: Vec<bool>,
    null_count: usize,
    /// Data buffers that are full.
    full: Vec<Buffer>,
    /// Long texts one after the other: the data buffer behind the full ones.
    text: Vec<u8>,
    /// Where the last long text lies in `text`: neighbouring series mostly share their labels.
    last: Option<(std::ops::Range<usize>, u128)>,
}

/// Views up to this many bytes carry their text themselves. Source: Arrow columnar format, variable-size binary view.
const INLINE_BYTES: usize = 12;

/// No text begins behind this many bytes of a data buffer: views count in 32 bits.
const BUFFER_BYTES: usize = 1 << 30;

impl LabelColumn {
    /// Appends `row_count` rows of `text`; `None` is NULL.
    pub fn append_run(&mut self, text: Option<&str>, row_count: usize) {
        let view = match text {
            None => {
                self.null_count += row_count;
                0
            }
            Some(text) if text.len() <= INLINE_BYTES => make_view(text.as_bytes(), 0, 0),
            Some(text) => self.long_view(text.as_bytes()),
        };
        self.views.resize(self.views.len() + row_count, view);
        self.valid.resize(self.valid.len() + row_count, text.is_some());
    }

    fn long_view(&mut self, text: &[u8]) -> u128 {
        if let Some((range, view)) = &self.last
            && self.text[range.clone()] == *text
        {
            return *view;
        }
        if self.text.len() > BUFFER_BYTES {
            self.full.push(Buffer::from_vec(std::mem::take(&mut self.text)));
        }
        let start = self.text.len();
        self.text.extend_from_slice(text);
        let view = make_view(text, self.full.len() as u32, start as u32);
        self.last = Some((start..self.text.len(), view));
        view
    }

    pub fn finish(mut self) -> ArrayRef {
        let nulls = (self.null_count > 0).then(|| NullBuffer::from(self.valid));
        let views = ScalarBuffer::from(self.views);
        if !self.text.is_empty() {
            self.full.push(Buffer::from_vec(self.text));
        }
        // SAFETY: every view was made by `make_view` from valid UTF-8 that is either inline or lies in the view's buffer at
        // the view's offset; NULL rows hold the empty inline view. Checking again would compare every row.
        Arc::new(unsafe { StringViewArray::new_unchecked(views, self.full, nulls) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array, AsArray};

    #[test]
    fn runs_become_rows() {
        let mut column = LabelColumn::default();
        column.append_run(Some("short"), 2);
        column.append_run(None, 1);
        column.append_run(Some("a text of more than twelve bytes"), 2);
        column.append_run(Some(""), 1);
        let array = column.finish();
        let array = array.as_string_view();
        assert_eq!(
            array.iter().collect::<Vec<_>>(),
            [
                Some("short"),
                Some("short"),
                None,
                Some("a text of more than twelve bytes"),
                Some("a text of more than twelve bytes"),
                Some("")
            ]
        );
        // Arrow's own validation agrees with the claim in `finish`.
        array.to_data().validate_full().unwrap();
    }
}
