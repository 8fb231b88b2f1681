"""The night in Airflow: one factory, thin tasks, and what the grid says about them."""
