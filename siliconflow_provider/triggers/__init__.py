"""Airflow triggers that wait for SiliconFlow batches."""
