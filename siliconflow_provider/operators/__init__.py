"""Airflow operators for SiliconFlow batches."""
