//! Reader primitives over a datum's bytes, and what can be wrong with them.
//!
//! Invariant: nothing here reads past the end, and no length is believed before it was compared with what is left.
//! Not here: which primitives a schema needs (`plan`).

use thiserror::Error;

use crate::error::{Code, Kind, codes};
use crate::limits::EMPTY_ITEMS_MAX;

/// Why a datum could not be decoded, and at which byte.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("at byte {}: {}", .0.position, .0.problem)]
pub struct DecodeError(Box<Failure>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Failure {
    position: usize,
    problem: Problem,
}

/// What is wrong with a datum.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Problem {
    #[error("the datum ends inside a value")]
    Truncated,
    #[error("{count} bytes follow the datum")]
    Trailing { count: usize },
    #[error("a number takes more than 10 bytes or 64 bits")]
    NumberTooLong,
    #[error("{number} does not fit an int")]
    IntRange { number: i64 },
    #[error("{byte} is not a boolean")]
    Boolean { byte: u8 },
    #[error("a length is negative: {length}")]
    Length { length: i64 },
    #[error("a block says it has {count} items, more than the datum can hold")]
    Count { count: i64 },
    #[error("a string is not UTF-8")]
    Utf8,
    #[error("a decimal is empty or has more than 128 bits")]
    Decimal,
    #[error("enum `{name}` has no symbol number {index}")]
    EnumIndex { name: String, index: i64 },
    #[error("a union of {branches} has no branch {index}")]
    UnionIndex { branches: usize, index: i64 },
    #[error("it is nested more than {max} deep")]
    Depth { max: usize },
    /// The writer's schema allows it, the reader's does not.
    #[error("the reader's schema does not take it: {message}")]
    Unreadable { message: String },
}

impl DecodeError {
    /// How far reading had come, in bytes from the start of the datum.
    pub fn position(&self) -> usize {
        self.0.position
    }

    pub fn problem(&self) -> &Problem {
        &self.0.problem
    }

    /// One record is wrong, not the program.
    pub fn kind(&self) -> Kind {
        Kind::Record
    }

    /// The page that explains it.
    pub fn code(&self) -> Code {
        codes::DATUM_UNREADABLE
    }
}

pub(crate) type Decoded<T> = Result<T, DecodeError>;

/// What is left of a datum's bytes.
///
/// It is copied into calls that are not inlined, and back: while its address stays at home, the loop over a record's
/// operations may keep it in registers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'a> {
    rest: &'a [u8],
    whole_len: usize,
    /// How many items without bytes (nulls in a list) may still be made.
    empty_items_left: usize,
}

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, whole_len: bytes.len(), empty_items_left: EMPTY_ITEMS_MAX }
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn fail<T>(self, problem: Problem) -> Decoded<T> {
        Err(DecodeError(Box::new(Failure { position: self.whole_len - self.rest.len(), problem })))
    }

    /// Checks that all bytes were read.
    #[inline(always)]
    pub(crate) fn end(self) -> Decoded<()> {
        if self.rest.is_empty() { Ok(()) } else { self.fail(Problem::Trailing { count: self.rest.len() }) }
    }

    /// Reads a variable-length zig-zag number.
    #[inline(always)]
    pub(crate) fn long(&mut self) -> Decoded<i64> {
        if let [first, rest @ ..] = self.rest
            && *first < 0x80
        {
            self.rest = rest;
            return Ok(unzigzag(u64::from(*first)));
        }
        if let Some((word, _)) = self.rest.split_first_chunk::<8>() {
            let word = u64::from_le_bytes(*word);
            let stops = !word & HIGH_BITS;
            if stops != 0 {
                let last_bit = stops.trailing_zeros();
                self.rest = &self.rest[(last_bit as usize + 1) / 8..];
                return Ok(unzigzag(pack_sevens(word & (u64::MAX >> (63 - last_bit)))));
            }
        }
        let (number, after) = self.long_slow()?;
        *self = after;
        Ok(number)
    }

    #[inline(never)]
    fn long_slow(mut self) -> Decoded<(i64, Self)> {
        let mut number = 0_u64;
        for (index, byte) in self.rest.iter().take(10).enumerate() {
            let bits = u64::from(byte & 0x7F);
            if index == 9 && bits > 1 {
                break;
            }
            number |= bits << (7 * index);
            if *byte < 0x80 {
                self.rest = &self.rest[index + 1..];
                return Ok((unzigzag(number), self));
            }
        }
        self.fail(if self.rest.len() < 10 { Problem::Truncated } else { Problem::NumberTooLong })
    }

    /// Reads a number that must fit 32 bits.
    #[inline(always)]
    pub(crate) fn int(&mut self) -> Decoded<i64> {
        let number = self.long()?;
        if i32::try_from(number).is_ok() { Ok(number) } else { self.fail(Problem::IntRange { number }) }
    }

    #[inline(always)]
    pub(crate) fn bool(&mut self) -> Decoded<bool> {
        match self.rest {
            [byte @ (0 | 1), rest @ ..] => {
                self.rest = rest;
                Ok(*byte == 1)
            }
            [byte, ..] => self.fail(Problem::Boolean { byte: *byte }),
            [] => self.fail(Problem::Truncated),
        }
    }

    #[inline(always)]
    pub(crate) fn float(&mut self) -> Decoded<f32> {
        Ok(f32::from_le_bytes(self.array()?))
    }

    #[inline(always)]
    pub(crate) fn double(&mut self) -> Decoded<f64> {
        Ok(f64::from_le_bytes(self.array()?))
    }

    #[inline(always)]
    pub(crate) fn array<const N: usize>(&mut self) -> Decoded<[u8; N]> {
        let Some((taken, rest)) = self.rest.split_first_chunk::<N>() else { return self.fail(Problem::Truncated) };
        self.rest = rest;
        Ok(*taken)
    }

    #[inline(always)]
    pub(crate) fn take(&mut self, count: usize) -> Decoded<&'a [u8]> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else { return self.fail(Problem::Truncated) };
        self.rest = rest;
        Ok(taken)
    }

    /// Reads a length and as many bytes.
    #[inline(always)]
    pub(crate) fn blob(&mut self) -> Decoded<&'a [u8]> {
        let length = self.long()?;
        match usize::try_from(length) {
            Ok(length) => self.take(length),
            Err(_) => self.fail(Problem::Length { length }),
        }
    }

    /// Skips `count` numbers, several at a time where eight bytes are left.
    #[inline(always)]
    pub(crate) fn skip_longs(&mut self, count: u32) -> Decoded<()> {
        let mut left = count;
        while left > 0 {
            let word = self.rest.split_first_chunk::<8>().map_or(u64::MAX, |(word, _)| u64::from_le_bytes(*word));
            let mut stops = !word & HIGH_BITS;
            if stops == 0 {
                (_, *self) = self.long_slow()?;
                left -= 1;
                continue;
            }
            let here = left.min(stops.count_ones());
            for _ in 1..here {
                stops &= stops - 1;
            }
            self.rest = &self.rest[(stops.trailing_zeros() as usize + 1) / 8..];
            left -= here;
        }
        Ok(())
    }

    /// Reads the head of an array's or map's next block: none at the end, else how many items follow.
    ///
    /// `item_bytes_min` is the least that an item takes: a count that cannot be true is refused before anything is made.
    pub(crate) fn block(&mut self, item_bytes_min: usize) -> Decoded<Option<usize>> {
        Ok(self.block_head(item_bytes_min)?.map(|(count, _)| count))
    }

    /// As [`Input::block`], but passes over blocks that say their size; none at the end, else items to be skipped one by one.
    pub(crate) fn block_to_skip(&mut self, item_bytes_min: usize) -> Decoded<Option<usize>> {
        loop {
            match self.block_head(item_bytes_min)? {
                None => return Ok(None),
                Some((count, None)) => return Ok(Some(count)),
                Some((_, Some(size))) => {
                    self.take(size)?;
                }
            }
        }
    }

    fn block_head(&mut self, item_bytes_min: usize) -> Decoded<Option<(usize, Option<usize>)>> {
        let count = self.long()?;
        if count == 0 {
            return Ok(None);
        }
        let size = if count < 0 {
            let length = self.long()?;
            match usize::try_from(length) {
                Ok(size) if size <= self.rest.len() => Some(size),
                Ok(_) => return self.fail(Problem::Truncated),
                Err(_) => return self.fail(Problem::Length { length }),
            }
        } else {
            None
        };
        let Ok(items) = usize::try_from(count.unsigned_abs()) else { return self.fail(Problem::Count { count }) };
        if item_bytes_min == 0 {
            let Some(left) = self.empty_items_left.checked_sub(items) else {
                return self.fail(Problem::Count { count });
            };
            self.empty_items_left = left;
        } else if items > self.rest.len() / item_bytes_min {
            return self.fail(Problem::Count { count });
        }
        Ok(Some((items, size)))
    }
}

const HIGH_BITS: u64 = 0x8080_8080_8080_8080;

#[inline(always)]
fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

/// Packs the low seven bits of each byte, first byte lowest.
#[inline(always)]
fn pack_sevens(word: u64) -> u64 {
    let sevens = word & !HIGH_BITS;
    let pairs = (sevens & 0x007F_007F_007F_007F) | ((sevens & 0x7F00_7F00_7F00_7F00) >> 1);
    let fours = (pairs & 0x0000_3FFF_0000_3FFF) | ((pairs & 0x3FFF_0000_3FFF_0000) >> 2);
    (fours & 0x0FFF_FFFF) | ((fours & 0x0FFF_FFFF_0000_0000) >> 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zigzag(number: i64) -> Vec<u8> {
        let mut rest = ((number << 1) ^ (number >> 63)) as u64;
        let mut bytes = Vec::new();
        while rest >= 0x80 {
            bytes.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        bytes.push(rest as u8);
        bytes
    }

    #[test]
    fn numbers_of_every_length_are_read_whatever_follows() {
        for shift in 0..64 {
            for number in [1_i64 << shift, -(1_i64 << (shift % 63)), (1_i64 << (shift % 63)) - 1, i64::MIN, i64::MAX] {
                for tail in 0..10 {
                    let mut bytes = zigzag(number);
                    let length = bytes.len();
                    bytes.extend(std::iter::repeat_n(0xFF, tail));
                    let mut input = Input::new(&bytes);
                    assert_eq!(input.long(), Ok(number));
                    assert_eq!(input.rest.len(), tail);
                    let mut input = Input::new(&bytes);
                    assert_eq!(input.skip_longs(1), Ok(()));
                    assert_eq!(input.rest.len(), bytes.len() - length);
                }
            }
        }
    }

    #[test]
    fn runs_of_numbers_are_skipped_across_words() {
        for count in 0..30_u32 {
            for seed in 0..8_i64 {
                let numbers: Vec<i64> = (0..i64::from(count)).map(|n| 1 << ((n * 7 + seed * 5) % 63)).collect();
                let mut bytes: Vec<u8> = numbers.iter().flat_map(|number| zigzag(*number)).collect();
                bytes.push(1);
                let mut input = Input::new(&bytes);
                assert_eq!(input.skip_longs(count), Ok(()));
                assert_eq!(input.rest, [1]);
            }
        }
    }

    #[test]
    fn numbers_that_end_early_or_never_are_errors() {
        let problem = |bytes: &[u8]| Input::new(bytes).long().unwrap_err().problem().clone();
        assert_eq!(problem(&[]), Problem::Truncated);
        assert_eq!(problem(&[0x80; 9]), Problem::Truncated);
        assert_eq!(problem(&[0x80; 10]), Problem::NumberTooLong);
        assert_eq!(problem(&[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x02]), Problem::NumberTooLong);
        assert_eq!(Input::new(&[0x80; 3]).skip_longs(1).unwrap_err().problem(), &Problem::Truncated);
    }
}
