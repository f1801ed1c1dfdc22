//! Copying a data directory while its shard goes on.
//!
//! The shard ends a segment of its journal: everything acknowledged so far is before it. A flush that
//! is done meanwhile lets go of no journal until that part of it is copied. The store is copied as it was
//! at one moment: its files never change, and one that a merge removes meanwhile stays open. The root
//! of that moment names a segment of the journal that is not behind the end of what is copied, so
//! both fit together.

mod copy;

use std::path::PathBuf;
use std::sync::Arc;

use crate::base::command::{Answer, BackedUp};
use crate::base::error::{ClientError, Code};
use crate::base::id::SessionId;
use crate::env::disk::Disk;
use crate::journal::{JournalError, Position};

use super::core::Core;
use super::error::ShardError;

pub(super) use copy::{BackupError, Copying};

/// A backup to be made.
pub(super) struct Job {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) data_dir: PathBuf,
    pub(super) target: PathBuf,
    /// The journal is copied up to the beginning of this segment.
    pub(super) journal_to: u64,
    /// Space that is left free on the disk of the target, bytes.
    pub(super) reserve: u64,
}

/// What the shard knows of its backup.
#[derive(Debug, Default)]
pub(super) struct Backups {
    asked: Option<Asked>,
    /// The journal is being copied, and nothing of it may go.
    holds_journal: bool,
    /// What may go when it does not.
    trim_to: Option<Position>,
}

#[derive(Debug)]
struct Asked {
    session: SessionId,
    tag: u64,
    target: PathBuf,
    begun: bool,
}

impl Backups {
    /// Whether one is asked for or under way.
    pub(super) fn any(&self) -> bool {
        self.asked.is_some()
    }

    /// Whether there is journal that would have gone but for it.
    pub(super) fn keeps_journal(&self) -> bool {
        self.trim_to.is_some()
    }
}

impl Core {
    /// Takes a wish for a backup; it begins when the step is over.
    pub(super) fn ask_for_backup(&mut self, session: SessionId, tag: u64, target: PathBuf) {
        if self.backups.any() {
            let error = ClientError::new(Code::BackupFailed, "another backup is under way");
            self.engine.answer(session, tag, Answer::Failed(error));
            return;
        }
        self.backups.asked = Some(Asked { session, tag, target, begun: false });
    }

    /// Begins the backup that was asked for.
    pub(super) fn begin_backup(&mut self) -> Result<(), ShardError> {
        let Some(asked) = self.backups.asked.as_mut().filter(|asked| !asked.begun) else {
            return Ok(());
        };
        asked.begun = true;
        let target = asked.target.clone();
        let position = match self.journal.roll() {
            Ok(position) => position,
            Err(error @ JournalError::Full { .. }) => {
                return self.backup_is_over(Err(error.into()));
            }
            Err(error) => return Err(error.into()),
        };
        tracing::info!(target = %target.display(), "a backup begins");
        self.backups.holds_journal = true;
        self.background.backup(Job {
            disk: self.disk.clone(),
            data_dir: self.data_dir.clone(),
            target,
            journal_to: position.segment,
            reserve: self.disk_reserve,
        });
        Ok(())
    }

    /// Lets journal go that a flush made needless, as soon as no backup needs it.
    pub(super) fn trim(&mut self, from: Position) -> Result<(), JournalError> {
        if self.backups.holds_journal {
            self.backups.trim_to = self.backups.trim_to.max(Some(from));
            return Ok(());
        }
        self.journal.trim(from)
    }

    /// The backup has its copy of the journal.
    pub(super) fn journal_is_copied(&mut self) -> Result<(), ShardError> {
        self.backups.holds_journal = false;
        match self.backups.trim_to.take() {
            Some(from) => Ok(self.journal.trim(from)?),
            None => Ok(()),
        }
    }

    /// The backup is made, or has failed.
    pub(super) fn backup_is_over(
        &mut self,
        made: Result<BackedUp, BackupError>,
    ) -> Result<(), ShardError> {
        if let Some(Asked { session, tag, target, .. }) = self.backups.asked.take() {
            let answer = match made {
                Ok(made) => {
                    let (files, bytes) = (made.files, made.bytes);
                    tracing::info!(target = %target.display(), files, bytes, "a backup is made");
                    Answer::BackedUp(made)
                }
                Err(error) => {
                    tracing::warn!(target = %target.display(), %error, "a backup failed");
                    Answer::Failed(ClientError::new(Code::BackupFailed, error.to_string()))
                }
            };
            self.engine.answer(session, tag, answer);
        }
        self.journal_is_copied()
    }
}
