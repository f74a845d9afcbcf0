"""The record of every act and every refusal, chained so that a change shows."""
