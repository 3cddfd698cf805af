"""Task decorators for SiliconFlow batches."""
