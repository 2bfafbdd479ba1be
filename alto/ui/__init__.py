"""What people touch; speaks HTTP to the API and to nothing else."""
