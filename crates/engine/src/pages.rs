//! Which pages of the KV cache are in use, and by how many.

use kernels::backend::{BackendError, Program};

/// Counts the holders of each page that the program has; grows the program's storage as pages are asked for.
#[derive(Debug)]
pub struct PagePool {
    /// Holders of page i: sequences and kept prefixes.
    holders: Vec<u32>,
    free: Vec<u32>,
    /// The most pages that may exist.
    limit: usize,
}

impl PagePool {
    pub fn new(limit: usize) -> Self {
        Self { holders: Vec::new(), free: Vec::new(), limit }
    }

    /// A page with one holder and undefined content; `None` where all pages up to the limit are held.
    ///
    /// # Errors
    /// The program's storage cannot grow.
    pub fn take(&mut self, program: &mut dyn Program) -> Result<Option<u32>, BackendError> {
        if self.free.is_empty() && self.holders.len() < self.limit {
            // Doubling keeps the number of growths small where each may copy the storage.
            let pages = (2 * self.holders.len()).clamp(1, self.limit).max(program.pages().min(self.limit));
            program.reserve(pages)?;
            // Lower ids are taken first.
            self.free.extend((self.holders.len() as u32..pages as u32).rev());
            self.holders.resize(pages, 0);
        }
        let page = self.free.pop();
        if let Some(page) = page {
            self.holders[page as usize] = 1;
        }
        Ok(page)
    }

    /// Adds a holder to each of the pages.
    pub fn share(&mut self, pages: &[u32]) {
        pages.iter().for_each(|&page| self.holders[page as usize] += 1);
    }

    /// Takes a holder from each of the pages; those without one are free again.
    pub fn release(&mut self, pages: &[u32]) {
        for &page in pages {
            let holders = &mut self.holders[page as usize];
            *holders -= 1;
            if *holders == 0 {
                self.free.push(page);
            }
        }
    }

    /// Whether the page has a single holder, who may write to it.
    pub fn is_exclusive(&self, page: u32) -> bool {
        self.holders[page as usize] == 1
    }

    /// Pages with a holder.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        self.holders.len() - self.free.len()
    }
}
