//! Lives on a small disk that is full, or was made read-only.

use std::process::ExitStatus;

use super::load;
use super::server::Server;
use super::small::SmallDisk;
use super::{End, SPACE_PATIENCE, Torture, TortureError, failed};

/// What is wrong with the disk in a life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    None,
    /// Full before the server starts, and for a while.
    FullAtStart,
    /// Full for a while under load.
    Full,
    /// The server cannot start. Under a running one the system does not let it happen.
    ReadOnly,
}

impl Torture<'_> {
    pub(super) fn choose_trouble(&mut self) -> Trouble {
        if self.small.is_none() {
            return Trouble::None;
        }
        match self.random.below(100) {
            0..50 => Trouble::None,
            50..80 => Trouble::Full,
            80..92 => Trouble::FullAtStart,
            _ => Trouble::ReadOnly,
        }
    }

    fn on_small(
        &self,
        what: &str,
        act: impl FnOnce(&SmallDisk) -> std::io::Result<()>,
    ) -> Result<(), TortureError> {
        self.small.as_ref().map_or(Ok(()), act).map_err(failed(what))
    }

    /// Before the server starts; whether the life is over with that.
    pub(super) async fn begin_trouble(&mut self, trouble: Trouble) -> Result<bool, TortureError> {
        match trouble {
            Trouble::None | Trouble::Full => {}
            Trouble::FullAtStart => self.on_small("fill the disk", SmallDisk::fill)?,
            Trouble::ReadOnly => {
                self.on_small("make it read-only", |small| small.set_read_only(true))?;
                let mut server = self.spawn(None)?;
                match server.ready().await {
                    Ok(_) => self.ledger.lock().violation("started on a read-only disk".into()),
                    Err(_) => self.judge_refusal(&mut server)?,
                }
                drop(server);
                self.on_small("make it writable", |small| small.set_read_only(false))?;
            }
        }
        Ok(trouble == Trouble::ReadOnly)
    }

    /// In the middle of a life.
    pub(super) async fn have_trouble(
        &mut self,
        trouble: Trouble,
        address: &str,
        end: End,
    ) -> Result<(), TortureError> {
        match trouble {
            Trouble::None | Trouble::ReadOnly => return Ok(()),
            Trouble::FullAtStart => {}
            Trouble::Full => self.on_small("fill the disk", SmallDisk::fill)?,
        }
        self.ledger.lock().counts.full_disks += 1;
        self.sleep(200, 2_500).await;
        // Or the life ends with the disk still full.
        if end != End::Fault && self.random.percent(60) {
            self.end_trouble()?;
            if let Err(why) = load::comes_back(address, &self.ledger, SPACE_PATIENCE).await {
                self.ledger.lock().violation(format!("after a full disk: {why}"));
            }
        }
        Ok(())
    }

    /// There is space for whatever comes next.
    pub(super) fn end_trouble(&self) -> Result<(), TortureError> {
        self.on_small("make space", SmallDisk::clear)
    }

    /// A start that was refused must have been refused in good order.
    pub(super) fn judge_refusal(&self, server: &mut Server) -> Result<(), TortureError> {
        let status = server.ended().map_err(failed("wait"))?;
        let (log, mut ledger) = (server.log(), self.ledger.lock());
        if status.and_then(|status: ExitStatus| status.code()) == Some(1)
            && !log.contains("panicked at")
        {
            ledger.counts.refused_starts += 1;
        } else {
            ledger.violation(format!("a start was not refused in good order: {status:?}; {log}"));
        }
        Ok(())
    }
}
