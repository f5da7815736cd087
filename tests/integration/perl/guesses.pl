# Leaves it to Perl's RPC::XML::Client to guess the types of plain scalars, and prints what comes of it, a line each.
use strict;
use warnings;
use RPC::XML;
use RPC::XML::Client;

my ($url) = @ARGV;
my $client = RPC::XML::Client->new($url) or die "no client\n";

sub ask {
    my $answer = $client->send_request(@_);
    die "$_[0]: $answer\n" unless ref $answer;
    die "$_[0]: ", $answer->string, "\n" if $answer->is_fault;
    return $answer->value;
}

my %file = (source => 'https://example.org/a.csv', destination => 'archive');
my %request = (%file, path => 'a.csv', label => '20261128', request_id => '20261128120000', size => '5000000000',
    priority => '5', deadline => '3600');
print 'jobs.submit: ', ask('jobs.submit', \%request)->{id}, "\n";
print 'jobs.submit again: ', ask('jobs.submit', \%request)->{id}, "\n";
print 'label: ', scalar @{ask('jobs.list', { label => '20261128' })}, " job\n";
print 'leading zeros: ', ask('jobs.submit', { %file, path => '0012' })->{id}, "\n";
$RPC::XML::ALLOW_NIL = 1;
my %undefined = map { $_ => undef } qw(label checksum size request_id deadline notify archive priority);
print 'undef: ', ask('jobs.submit', { %file, path => 'b.csv', %undefined })->{id}, "\n";
print 'move: ', ask('move', $file{source}, 'scp://archive/2026', 0)->{status}, "\n";
print 'move, packed: ', ask('move', { type => 'url', url => $file{source} },
    { host => 'archive', path => '2026', zip => 1 }, undef)->{status}, "\n";
print 'status: ', ask('checkMoveStatus', '5')->{status}, "\n";
print 'no options: ', scalar @{ask('jobs.list', undef)}, " jobs\n";
