# Calls datamover with Perl's RPC::XML::Client and prints what it sees, a line each.
use strict;
use warnings;
use RPC::XML qw(:types);
use RPC::XML::Client;

binmode STDOUT, ':utf8';
$RPC::XML::ENCODING = 'utf-8';
my ($url) = @ARGV;
my $client = RPC::XML::Client->new($url) or die "no client\n";

sub show {
    my ($name, @parameters) = @_;
    my $answer = $client->send_request($name, @parameters);
    if (!ref $answer) {
        print "$name: broken: $answer\n";
    } elsif ($answer->is_fault) {
        print "$name: fault ", $answer->code, ": ", $answer->string, "\n";
    } else {
        my $value = $answer->value;
        print "$name: ", ref $value eq 'HASH' ? join(' ', map { "$_=$value->{$_}" } grep { !/_at$/ } sort keys %$value)
            : ref $value eq 'ARRAY' ? scalar(@$value) . ' values' : $value, "\n";
    }
}

show('jobs.submit', { source => 'https://example.org/a.csv', destination => 'archive', path => "in/\x{fc}.csv",
    label => "gr\x{fc}n", size => RPC::XML::i8->new('5000000000') });
show('jobs.status', 1);
show('jobs.status', 2);
show('jobs.submit', { source => 'https://example.org/a.csv', destination => 'archive', path => '../x' });
show('move', 'http://example.org/a.zip', 'scp://archive/maps/', RPC::XML::boolean->new(0));
show('checkMoveStatus', '2');
show('move', RPC::XML::nil->new(1), 'scp://archive/maps/');
show('destinations.list');
