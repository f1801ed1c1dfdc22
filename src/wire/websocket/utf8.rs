//! Is a text UTF-8? Asked piece by piece.

/// The check of one text that comes in pieces, cut anywhere.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Utf8 {
    /// The beginning of a character whose end has not come.
    tail: [u8; 4],
    len: usize,
}

impl Utf8 {
    /// Looks at the next piece; tells whether the text can still be UTF-8.
    pub(crate) fn push(&mut self, mut piece: &[u8]) -> bool {
        while self.len > 0 {
            let Some((first, rest)) = piece.split_first() else { return true };
            let Some(place) = self.tail.get_mut(self.len) else { return false };
            *place = *first;
            self.len += 1;
            piece = rest;
            match std::str::from_utf8(self.tail.get(..self.len).unwrap_or_default()) {
                Ok(_) => self.len = 0,
                Err(error) if error.error_len().is_some() => return false,
                Err(_) => {}
            }
        }
        match std::str::from_utf8(piece) {
            Ok(_) => true,
            Err(error) if error.error_len().is_some() => false,
            Err(error) => {
                // At most three bytes: a character has four.
                for byte in piece.get(error.valid_up_to()..).unwrap_or_default() {
                    if let Some(place) = self.tail.get_mut(self.len) {
                        *place = *byte;
                        self.len += 1;
                    }
                }
                true
            }
        }
    }

    /// Ends the text; tells whether it ended with a whole character.
    pub(crate) fn end(&mut self) -> bool {
        std::mem::take(&mut self.len) == 0
    }
}
