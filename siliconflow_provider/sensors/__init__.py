"""Sensors that wait for SiliconFlow batches."""
