//! Which series satisfy matchers.

use std::collections::HashMap;
use std::sync::Arc;

use pilaster_model::{MatchOp, Matcher};
use roaring::RoaringBitmap;

use super::postings::Postings;
use super::{Index, SeriesRef};

/// Looking up a series costs about as much as going over so many.
const WORTH_LOOKING_UP: u64 = 16;

impl Index {
    /// The series that satisfy all `matchers`, ascending by slot.
    pub fn resolve(&self, matchers: &[Matcher]) -> Vec<SeriesRef> {
        self.resolve_slots(matchers).into_iter().filter_map(|slot| self.reference(slot)).collect()
    }

    fn resolve_slots(&self, matchers: &[Matcher]) -> RoaringBitmap {
        let mut found: Option<RoaringBitmap> = None;
        // Conditions that name their values first: they are look-ups, and make the rest small.
        let (literal, mut rest): (Vec<&Matcher>, Vec<&Matcher>) =
            matchers.iter().partition(|m| !m.matches_empty() && !is_negative(m) && literals(m).is_some());
        let mut literal: Vec<AnyOf<'_>> = literal.into_iter().map(|matcher| self.any_of(matcher)).collect();
        // The rarest first: one series is looked up in the postings of a metric, however many that has.
        literal.sort_by_key(|any_of| any_of.len);
        for any_of in literal {
            let set = match found {
                Some(found) if found.len() < any_of.len / WORTH_LOOKING_UP => {
                    found.into_iter().filter(|&slot| any_of.contains(slot)).collect()
                }
                Some(found) => found & any_of.union(),
                None => any_of.union(),
            };
            if set.is_empty() {
                return set;
            }
            found = Some(set);
        }
        // Of the others those that ask for a label come first: they do not begin with all series.
        rest.sort_by_key(|matcher| matcher.matches_empty());
        for matcher in rest {
            let value_count = self.names.get(matcher.name()).map_or(0, |name| name.values.len() as u64);
            let set = match found {
                Some(found) if found.len() < value_count => self.filter(found, matcher),
                Some(found) if matcher.matches_empty() => found - self.union(matcher, false),
                Some(found) => found & self.union(matcher, true),
                None if matcher.matches_empty() => &self.all - self.union(matcher, false),
                None => self.union(matcher, true),
            };
            if set.is_empty() {
                return set;
            }
            found = Some(set);
        }
        found.unwrap_or_else(|| self.all.clone())
    }

    /// What a matcher that names its values asks for.
    fn any_of(&self, matcher: &Matcher) -> AnyOf<'_> {
        let values = self.names.get(matcher.name()).map(|name| &name.values);
        let pair = |value: &str| self.pairs[*values?.get(value)? as usize].as_ref();
        let postings: Vec<&Postings> =
            literals(matcher).unwrap_or_default().into_iter().filter_map(pair).map(|pair| &pair.postings).collect();
        AnyOf { len: postings.iter().map(|postings| postings.len()).sum(), postings }
    }

    /// The series with a value of the label for which the matcher says `verdict`.
    fn union(&self, matcher: &Matcher, verdict: bool) -> RoaringBitmap {
        let mut set = RoaringBitmap::new();
        let Some(name) = self.names.get(matcher.name()) else { return set };
        let mut add = |pair: u32| {
            if let Some(pair) = &self.pairs[pair as usize] {
                pair.postings.add_to(&mut set);
            }
        };
        // The negative forms refuse exactly the literals of the positive ones.
        match literals(matcher) {
            Some(values) if verdict != is_negative(matcher) => {
                for value in values {
                    name.values.get(value).into_iter().for_each(|&pair| add(pair));
                }
            }
            Some(_) | None => {
                for (value, &pair) in &name.values {
                    if matcher.matches(value) == verdict {
                        add(pair);
                    }
                }
            }
        }
        set
    }

    /// Asks series one by one; each value once.
    fn filter(&self, set: RoaringBitmap, matcher: &Matcher) -> RoaringBitmap {
        let Some(name) = self.names.get(matcher.name()) else {
            return if matcher.matches_empty() { set } else { RoaringBitmap::new() };
        };
        let mut verdicts: HashMap<u32, bool> = HashMap::new();
        let matches_empty = matcher.matches_empty();
        let verdict_of = |slot: &u32| {
            let entry = self.series.get(*slot as usize).and_then(Option::as_ref);
            let pairs = entry.map_or(&[][..], |entry| &entry.pairs);
            let value = pairs.iter().find_map(|&number| {
                let pair = self.pairs[number as usize].as_ref()?;
                Arc::ptr_eq(&pair.name, &name.name).then_some((number, &pair.value))
            });
            match value {
                Some((number, value)) => *verdicts.entry(number).or_insert_with(|| matcher.matches(value)),
                None => matches_empty,
            }
        };
        set.into_iter().filter(verdict_of).collect()
    }
}

/// Series that carry one of some pairs.
struct AnyOf<'a> {
    postings: Vec<&'a Postings>,
    /// At most so many.
    len: u64,
}

impl AnyOf<'_> {
    fn contains(&self, slot: u32) -> bool {
        self.postings.iter().any(|postings| postings.contains(slot))
    }

    fn union(&self) -> RoaringBitmap {
        let mut set = RoaringBitmap::new();
        self.postings.iter().for_each(|postings| postings.add_to(&mut set));
        set
    }
}

fn is_negative(matcher: &Matcher) -> bool {
    matches!(matcher.op(), MatchOp::NotEqual | MatchOp::NotRegex)
}

/// The finite set of values that the matcher accepts, or refuses when it is negative.
fn literals(matcher: &Matcher) -> Option<Vec<&str>> {
    match matcher.op() {
        MatchOp::Equal | MatchOp::NotEqual => Some(vec![matcher.value()]),
        MatchOp::Regex | MatchOp::NotRegex => {
            matcher.literal_values().map(|values| values.iter().map(String::as_str).collect())
        }
    }
}
