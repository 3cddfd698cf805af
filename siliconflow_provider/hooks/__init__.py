"""The Airflow hook for SiliconFlow connections."""
