"""What models have and cost: counts, closed forms, memory."""
